use super::*;

fn parsed(path: &str) -> Result<String, KeyError> {
    Key::from_path(path).map(|key| key.to_string())
}

#[test]
fn a_path_is_decoded_once_and_written_back_the_same() {
    assert_eq!(parsed("/home/room/socks"), Ok("home/room/socks".into()));
    assert_eq!(parsed("a%3Fb%2523"), Ok("a%3Fb%2523".into()));
    assert_eq!(Key::from_path("a%ff").unwrap().as_bytes(), b"a\xff");
    assert_eq!(parsed("dir/"), Ok("dir/".into()));
}

#[test]
fn what_is_no_normal_form_is_refused_with_the_reason() {
    assert_eq!(parsed(""), Err(KeyError::Empty));
    assert_eq!(parsed("/"), Err(KeyError::Empty));
    assert_eq!(parsed("a//b"), Err(KeyError::EmptySegment));
    assert_eq!(parsed("//a"), Err(KeyError::EmptySegment));
    assert_eq!(parsed("a/../b"), Err(KeyError::DotSegment("..")));
    assert_eq!(parsed("a/%2e/b"), Err(KeyError::DotSegment(".")));
    assert_eq!(parsed("a%00"), Err(KeyError::Nul));
    assert_eq!(parsed("a%2"), Err(KeyError::BadEscape));
    assert_eq!(parsed(&"x".repeat(1025)), Err(KeyError::TooLong { bytes: 1025 }));
    assert!(parsed(&"x".repeat(1024)).is_ok());
}

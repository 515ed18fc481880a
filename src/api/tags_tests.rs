use super::*;

const A: &str = "0199a3f0-0000-8000-8000-00000000000a";
const B: &str = "0199a3f0-0000-8000-8000-00000000000b";

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value.parse().unwrap());
    }
    headers
}

fn of(name: HeaderName, value: &str) -> Result<Condition, Code> {
    condition(&headers(&[(name, value)])).map_err(|problem| problem.code())
}

fn uuid(text: &str) -> Uuid {
    text.parse().unwrap()
}

#[test]
fn stars_ask_for_presence_and_absence() {
    assert_eq!(of(IF_MATCH, "*"), Ok(Condition::Exists));
    assert_eq!(of(IF_NONE_MATCH, " * "), Ok(Condition::Absent));
    assert_eq!(condition(&HeaderMap::new()).unwrap(), Condition::None);
}

#[test]
fn lists_may_be_split_over_headers_and_hold_what_is_no_uuid() {
    let split = headers(&[(IF_MATCH, &format!("\"{A}\", \"x,y\"")), (IF_MATCH, &format!("\"{B}\""))]);

    assert_eq!(condition(&split).unwrap(), Condition::Matches(vec![uuid(A), uuid(B)]));
}

#[test]
fn a_weak_tag_never_matches_for_if_match_and_does_for_if_none_match() {
    let weak = format!("W/\"{A}\"");

    assert_eq!(of(IF_MATCH, &weak), Ok(Condition::Matches(Vec::new())));
    assert_eq!(of(IF_NONE_MATCH, &weak), Ok(Condition::Differs(vec![uuid(A)])));
}

#[test]
fn other_spellings_of_a_uuid_are_other_tags() {
    assert_eq!(of(IF_MATCH, &format!("\"{}\"", A.to_uppercase())), Ok(Condition::Matches(Vec::new())));
}

#[test]
fn what_is_no_list_of_tags_is_refused() {
    for bad in ["", ",", A, "\"open", "\"a\" \"b\"", "\"a b\"", "w/\"a\"", "*, \"a\""] {
        assert_eq!(of(IF_MATCH, bad), Err(Code::BadHeader), "{bad}");
    }
    let many = vec!["\"a\""; TAGS_MAX + 1].join(",");
    assert_eq!(of(IF_MATCH, &many), Err(Code::BadHeader));
    let both = headers(&[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")]);
    assert_eq!(condition(&both).unwrap_err().code(), Code::BadHeader);
}

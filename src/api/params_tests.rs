use super::*;

fn parse(query: &str) -> Result<Params, Problem> {
    Params::parse(Some(query), &["a", "b"])
}

#[test]
fn values_are_decoded_to_bytes() {
    let params = parse("a=x%20y+z%ff&b").unwrap();

    assert_eq!(params.bytes("a"), Some(b"x y z\xff".as_slice()));
    assert_eq!(params.bytes("b"), Some(b"".as_slice()));
    assert!(params.text("a").is_err());
}

#[test]
fn unknown_repeated_and_broken_parameters_are_refused() {
    for query in ["c=1", "a=1&a=2", "a=%2", "A=1", "=1"] {
        assert_eq!(parse(query).unwrap_err().code(), Code::BadParameter, "{query}");
    }
    assert!(parse("").is_ok());
    assert!(parse("&").is_ok());
}

#[test]
fn a_duration_is_a_number_and_a_unit_within_a_limit() {
    let max = Duration::from_secs(86_400);
    let duration = |text: &str| parse(&format!("a={text}")).unwrap().duration("a", max).map_err(|_| ());
    assert_eq!(duration("250ms"), Ok(Some(Duration::from_millis(250))));
    assert_eq!(duration("90s"), Ok(Some(Duration::from_secs(90))));
    assert_eq!(duration("2m"), Ok(Some(Duration::from_secs(120))));
    assert_eq!(duration("1d"), Ok(Some(max)));
    for bad in
        ["", "5", "s", "-1s", "1.5s", "1w", "0s", "25h", "99999999999999999999s", "18446744073709551615d"]
    {
        assert_eq!(duration(bad), Err(()), "{bad}");
    }
}

#[test]
fn a_switch_is_on_when_bare() {
    assert!(parse("a").unwrap().switch("a").unwrap());
    assert!(parse("a=true").unwrap().switch("a").unwrap());
    assert!(!parse("a=0").unwrap().switch("a").unwrap());
    assert!(!parse("").unwrap().switch("a").unwrap());
    assert!(parse("a=yes").unwrap().switch("a").is_err());
}

use crate::api::testbed::{Bed, Setup, problem};

async fn export(bed: &Bed) -> String {
    let answer = bed.ask("GET /export").await;
    assert_eq!(answer.status, 200);
    answer.text().to_owned()
}

async fn import(bed: &Bed, lines: &str) -> serde_json::Value {
    let answer = bed.send("POST /import", &[], lines.to_owned()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn filled() -> Bed {
    let bed = Bed::new();
    bed.put("a", "{ \"x\":\n 1.50 }").await;
    bed.send("PUT /kv/b%20c?ttl=1h", &[("content-type", "image/png")], vec![0, 159, 255]).await;
    bed.put("gone", "1").await;
    bed.ask("DELETE /kv/gone").await;
    bed
}

#[tokio::test]
async fn what_is_exported_comes_back_the_same_with_its_versions_and_tombstones() {
    let (from, to) = (filled().await, Bed::new());
    let lines = export(&from).await;
    assert_eq!(lines.lines().count(), 3, "{lines}");

    let summary = import(&to, &lines).await;

    assert_eq!(summary["taken"], 3, "{summary}");
    assert_eq!(export(&to).await, lines);
    for path in ["a", "b%20c"] {
        let ask = format!("GET /kv/{path}");
        let (ours, theirs) = (to.ask(&ask).await, from.ask(&ask).await);
        assert_eq!((&ours.body, ours.header("etag")), (&theirs.body, theirs.header("etag")));
    }
    assert_eq!(to.ask("GET /kv/gone").await.problem(), problem(404, "not-found"));
    let again = import(&to, &lines).await;
    assert_eq!((&again["taken"], &again["known"]), (&0.into(), &3.into()));
}

#[tokio::test]
async fn an_old_export_undoes_nothing() {
    let bed = filled().await;
    let lines = export(&bed).await;
    bed.put("a", "2").await;
    bed.ask("DELETE /kv/b%20c").await;

    assert_eq!(import(&bed, &lines).await["taken"], 0);

    assert_eq!(bed.ask("GET /kv/a").await.text(), "2");
    assert_eq!(bed.ask("GET /kv/b%20c").await.status, 404);
}

#[tokio::test]
async fn a_line_that_is_none_is_named() {
    let bed = Bed::new();
    let bed = &bed;
    let send = |body: &'static str| async move { bed.send("POST /import", &[], body).await };

    let answer = send("\n{\"key\":\"a\"}\n").await;
    assert_eq!(answer.problem(), problem(400, "bad-body"));
    assert!(answer.text().contains("line 2"), "{}", answer.text());
    let version = r#"{"millis":1,"counter":0,"origin":"zz","seq":1,"author_joined":1}"#;
    let line = format!("{{\"key\":\"a\",\"versions\":[{version}]}}");
    let answer = bed.send("POST /import", &[], line).await;
    assert_eq!(answer.problem(), problem(400, "bad-body"));
    let far = r#"{"key":"a","versions":[{"millis":1,"counter":0,"origin":"1","seq":0,"author_joined":1}]}"#;
    assert_eq!(import(bed, far).await["malformed"], 1);
}

#[tokio::test]
async fn a_backup_is_whole_and_holds_what_was_there() {
    let bed = filled().await;

    let answer = bed.ask("GET /backup").await;

    let counted = crate::storage::backup::check(&mut &answer.body[..]).unwrap();
    assert_eq!(answer.header("content-length"), counted.bytes.to_string());
    let mut store = crate::storage::memory::Memory::default();
    crate::storage::backup::restore(&mut &answer.body[..], &mut store).unwrap();
    let key = crate::model::Key::from_path("a").unwrap();
    let record = crate::storage::rows::record(&store, &key).unwrap();
    assert_eq!(record.versions()[0].value, "{ \"x\":\n 1.50 }");
}

#[tokio::test]
async fn what_was_set_aside_is_exported_with_its_values_and_comes_back_only_by_an_import() {
    let mut setup = Setup::new().with_aside("other", 1, "0");
    for number in 2..=700 {
        setup = setup.with_aside(&format!("k/{number}"), number, &number.to_string());
    }
    let bed = setup.start();
    assert_eq!(bed.ask("GET /kv/k/7").await.problem(), problem(404, "not-found"));
    let named = bed.ask("GET /status").await.json()["set_aside"].as_array().unwrap().len();
    assert_eq!(named, 100, "the status names some of them");

    let lines = bed.ask("GET /export?aside=true&prefix=k/").await;
    let lines = lines.text();
    assert_eq!(lines.lines().count(), 699);
    assert_eq!(bed.ask("GET /export").await.text(), "", "it is no data of this node");
    let summary = import(&bed, lines).await;

    assert_eq!(summary["taken"], 699, "{summary}");
    assert_eq!(bed.ask("GET /kv/k/7").await.text(), "7");
    assert_eq!(bed.ask("GET /kv/other").await.problem(), problem(404, "not-found"));
}

use serde_json::json;

use crate::api::testbed::{Setup, problem};
use crate::model::{Policies, Policy, Strategy};

#[tokio::test]
async fn every_version_is_listed_with_its_author_and_its_fate() {
    let mut setup = Setup::new();
    let rules =
        [(b"cart/".to_vec(), Policy::Siblings), (b"log/".to_vec(), Policy::History(Strategy::PreferNetwork))];
    setup.settings.policies = Policies::new(rules).unwrap();
    let bed = setup.start();
    for key in ["cart/1", "cart/1", "log/1", "log/1", "plain"] {
        bed.put(key, "1").await;
    }
    bed.ask("DELETE /kv/gone").await;
    let explain = async |key: &str| bed.ask(&format!("GET /kv/{key}?explain")).await;

    let cart = explain("cart/1").await.json();
    assert_eq!((&cart["policy"], cart["versions"].as_array().unwrap().len()), (&json!("siblings"), 2));
    assert_eq!(cart["versions"][0]["fate"], json!("shown"));
    let log = explain("log/1").await.json();
    assert_eq!(log["strategy"], json!("prefer-network"));
    assert_eq!(log["versions"][1]["fate"], json!("kept"));
    let plain = explain("plain").await.json();
    assert_eq!((&plain["policy"], &plain["decisions"]), (&json!("lww"), &json!([])));
    assert_eq!(explain("gone").await.json()["versions"][0]["fate"], json!("deleted"));
    assert_eq!(explain("nothing").await.json()["versions"], json!([]));
    let both = bed.ask("GET /kv/log/1?explain&heads").await;
    assert_eq!(both.problem(), problem(400, "bad-parameter"));
}

use serde_json::json;

use crate::api::testbed::{Bed, Setup, problem};
use crate::model::{Policies, Policy, Strategy};

fn bed() -> Bed {
    let mut setup = Setup::new();
    let rules =
        [(b"cart/".to_vec(), Policy::Siblings), (b"log/".to_vec(), Policy::History(Strategy::PreferNetwork))];
    setup.settings.policies = Policies::new(rules).unwrap();
    setup.start()
}

#[tokio::test]
async fn keys_with_several_values_are_listed_and_others_are_not() {
    let bed = bed();
    for key in ["cart/1", "cart/2", "cart/2", "cart/3", "cart/3", "log/1", "log/1", "plain"] {
        bed.put(key, "1").await;
    }

    let all = bed.ask("GET /conflicts").await.json();
    let items = all["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{all}");
    assert_eq!((&items[0]["key"], &items[0]["kind"]), (&json!("cart/2"), &json!("siblings")));
    assert_eq!((&items[0]["open"], items[0]["versions"].as_array().unwrap().len()), (&json!(true), 2));
    assert_eq!(all["next"], json!(null));

    let first = bed.ask("GET /conflicts?limit=1").await.json();
    let next = first["next"].as_str().unwrap();
    let second = bed.ask(&format!("GET /conflicts?start={next}")).await.json();
    assert_eq!(second["items"][0]["key"], json!("cart/3"));
    assert_eq!(bed.ask("GET /conflicts?prefix=log/").await.json()["items"], json!([]));
    assert_eq!(bed.ask("GET /conflicts?limit=0").await.problem(), problem(400, "bad-parameter"));
}

#[tokio::test]
async fn what_was_set_aside_is_listed_below_its_prefix_and_the_page_says_when_there_is_more() {
    let mut setup = Setup::new().with_aside("b/1", 1, "1");
    for number in 2..=1_100 {
        setup = setup.with_aside(&format!("a/{number}"), number, "2");
    }
    let bed = setup.start();

    let few = bed.ask("GET /conflicts?prefix=b/").await.json();
    assert_eq!(few["aside"].as_array().unwrap().len(), 1, "{few}");
    assert_eq!((&few["aside"][0]["key"], &few["aside_goes_on"]), (&json!("b/1"), &json!(null)));
    let all = bed.ask("GET /conflicts").await.json();
    assert!(all["aside"].as_array().unwrap().len() >= 1_000, "{all}");
    assert_eq!(all["aside_goes_on"], json!(true));
}

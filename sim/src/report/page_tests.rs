use super::*;
use crate::run::{Options, World, run};
use crate::scenario::parse::parse;
use crate::trace::Watch;

/// The data of a page as its script would read them.
fn read(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(data).unwrap()
}

fn made(yaml: &str) -> (Outcome, String) {
    let scenario = crate::plan::materialise(&parse("story.yaml", yaml).unwrap(), 7);
    let recorder = crate::report::recording::Recorder::new(scenario.all_nodes().cloned().collect());
    let watch: Box<dyn Watch> = Box::new(recorder.clone());
    let outcome =
        run(&scenario, 7, World::Fast, Options { watch: Some(watch), ..Options::default() }).unwrap();
    let page = page(&outcome, "what it is </script> about %DATA%", &recorder.recording());
    (outcome, page)
}

#[test]
fn a_page_shows_what_was_broken_and_where() {
    let (outcome, page) = made(
        "
cluster: { nodes: a b }
timeline: [ '1s put a color red' ]
check: [ 'get b color is blue' ]
",
    );
    let data = read(&page);

    assert_eq!(data["verdict"], "failed");
    assert_eq!(data["violations"][0]["code"], "STORY");
    assert_eq!(data["violations"][0]["node"], 1);
    assert_eq!(data["keys"][data["violations"][0]["key"].as_u64().unwrap() as usize], "color");
    assert_eq!(data["again"], outcome.again());
    assert_eq!(data["about"], "what it is </script> about %DATA%");
    let broken = data["events"].as_array().unwrap().iter().find(|event| event[2] == "broken").unwrap();
    assert!(broken[3].as_str().unwrap().contains("`blue` was expected, but it was `red`"), "{broken}");
}

#[test]
fn a_page_needs_nothing_from_anywhere_else() {
    let (_, page) = made("cluster: { nodes: a b }\n");

    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!page.contains("%STYLE%") && !page.contains("%SCRIPT%"));
}

#[test]
fn places_in_the_data_are_places_that_are_there() {
    let (_, page) = made(
        "
cluster: { nodes: a b c }
network: { loss: 10%, duplicate: 10%, corrupt: 5% }
workload: { rate: 20/s }
timeline: [ '1s isolate c', '3s heal', '4s crash b', '6s restart b', '8s stop workload' ]
",
    );
    let data = read(&page);
    let count = |name: &str| data[name].as_array().unwrap().len() as i64;

    for message in data["messages"].as_array().unwrap() {
        assert!(message[3].as_i64().unwrap() < count("kinds"));
        assert!(message[7].as_i64().unwrap() < count("fates"));
        assert!(message[8].as_array().unwrap().iter().all(|key| key.as_i64().unwrap() < count("keys")));
    }
    for held in data["holds"].as_array().unwrap() {
        assert!(
            held[3].as_array().unwrap().iter().all(|version| version.as_i64().unwrap() < count("versions"))
        );
    }
    assert!(count("messages") > 100 && count("holds") > 20 && count("cuts") >= 2);
}

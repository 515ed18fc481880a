use std::path::PathBuf;

use expect_test::{Expect, expect};

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Loads `text` as a file called `node.yaml`; errors name it without its folder.
fn load(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.yaml");
    std::fs::write(&path, text).unwrap();
    let prefix = format!("{}/", folder.path().display());
    Config::load(Some(&path), pairs(variables), pairs(flags))
        .map_err(|error| error.to_string().replace(&prefix, ""))
}

/// The reference of the configuration, as it stands in docs/.
fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\nMade from the table in `src/config/keys.rs`; a test keeps it so.\n\n\
         `node [CONFIG.yaml] [--key value]…`. Each key is also a variable and a flag. Flags win over variables, \
         variables over the\nfile, the file over defaults. `node --check-config` checks, `node --print-config` shows \
         every value with where it comes from.\nAn unknown key or a bad value is an error that names the place. \
         Tokens and certificates are read again on SIGHUP.\n\n| key | variable, flag | meaning |\n|---|---|---|\n",
    );
    for key in KEYS {
        let Key { name, about, list, .. } = key;
        let (variable, flag) = (name.to_ascii_uppercase(), name.replace('_', "-"));
        let list = if *list { "; a list, in a variable or flag separated by commas" } else { "" };
        let about = about.replace('|', "\\|");
        text.push_str(&format!("| `{name}` | `REKNIT_{variable}`, `--{flag}` | {about}{list} |\n"));
    }
    text
}

#[test]
fn the_reference_in_docs_is_made_from_the_table() {
    expect_test::expect_file!["../../docs/configuration.md"].assert_eq(&reference());
}

fn refused(text: &str, expected: &Expect) {
    let error = load(text, &[], &[]).expect_err("the file is wrong");
    expected.assert_eq(&error);
}

fn flag(name: &str, value: &str) -> Result<Config, String> {
    Config::load(None, [], pairs(&[(name, value)])).map_err(|error| error.to_string())
}

#[test]
fn nothing_at_all_is_a_standalone_node_on_loopback() {
    let config = Config::load(None, [], []).unwrap();

    assert_eq!(config.listen().to_string(), "127.0.0.1:8080");
    assert_eq!(config.advertise_address.as_str(), "127.0.0.1:8080");
    assert_eq!(config.data_dir, PathBuf::from("./data"));
    assert_eq!(config.node_id.as_str(), gethostname::gethostname().to_str().unwrap());
    assert_eq!(config.seed_nodes, []);
    assert_eq!(config.settings().timing, Timing::default());
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn every_key_of_the_seeds_file_keeps_its_meaning_and_unit() {
    let file = r#"
node_id: "hostname"           # Unique node identifier
bind_address: "127.0.0.1"     # IP address to bind to
port: 8080                    # HTTP port
data_dir: "./data"            # Directory for BadgerDB storage
seed_nodes: []                # List of seed nodes for cluster joining
read_only: false              # Enable read-only mode
log_level: "info"             # Logging level (debug, info, warn, error)
gossip_interval_min: 60       # Min gossip interval (seconds)
gossip_interval_max: 120      # Max gossip interval (seconds)
sync_interval: 300            # Regular sync interval (seconds)
catchup_interval: 120         # Catch-up sync interval (seconds)
bootstrap_max_age_hours: 720  # Max age for bootstrap sync (hours)
throttle_delay_ms: 100        # Delay between sync requests (ms)
fetch_delay_ms: 50            # Delay between data fetches (ms)
"#;

    let written_out = load(file, &[], &[]).unwrap();

    let by_default = Config::load(None, [], []).unwrap();
    assert_eq!(written_out.settings(), by_default.settings());
    assert_eq!(written_out.data_dir, by_default.data_dir);
    assert_eq!(written_out.gossip_interval_max, Duration::from_secs(120));
    assert_eq!(written_out.bootstrap_max_age_hours, 720);
    assert_eq!((written_out.throttle_delay_ms, written_out.fetch_delay_ms), (100, 50));
}

#[test]
fn the_example_files_make_three_nodes_that_share_nothing_but_a_folder() {
    for (number, seeds) in [(1, 0), (2, 1), (3, 2)] {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let path = root.join(format!("examples/node{number}.yaml"));

        let config = Config::load(Some(&path), [], []).unwrap();

        assert_eq!(config.node_id.as_str(), format!("node{number}"));
        assert_eq!(config.advertise_address.as_str(), format!("127.0.0.1:808{number}"));
        assert_eq!(config.data_dir, PathBuf::from(format!("./data/node{number}")));
        assert_eq!(config.seed_nodes.len(), seeds);
    }
}

#[test]
fn flags_win_over_variables_which_win_over_the_file() {
    let file = "port: 1001\nlog_level: warn\nread_only: true\n";
    let variables = [("REKNIT_PORT", "1002"), ("REKNIT_LOG_LEVEL", "error"), ("HOME", "/root")];

    let config = load(file, &variables, &[("port", "1003"), ("sync-interval", "5m")]).unwrap();

    assert_eq!(config.port, 1003);
    assert_eq!(config.log_level, LogLevel::Error);
    assert!(config.read_only);
    assert_eq!(config.sync_interval, Duration::from_secs(300));
}

#[test]
fn gossip_interval_sets_both_ends_and_each_end_can_still_be_moved() {
    let config = load("gossip_interval_max: 5s\ngossip_interval: 200ms\n", &[], &[]).unwrap();
    assert_eq!(config.gossip_interval_min, Duration::from_millis(200));
    assert_eq!(config.gossip_interval_max, Duration::from_secs(5));

    let config = load("gossip_interval_max: 5s\n", &[("REKNIT_GOSSIP_INTERVAL", "1s")], &[]).unwrap();
    assert_eq!(config.gossip_interval_max, Duration::from_secs(1));
}

#[test]
fn durations_have_units_and_only_the_seeds_intervals_may_do_without() {
    let read = |value| flag("sync_interval", value).map(|config| config.sync_interval);
    assert_eq!(read("1500ms"), Ok(Duration::from_millis(1500)));
    assert_eq!(read("1h"), Ok(Duration::from_secs(3600)));
    assert_eq!(read("90"), Ok(Duration::from_secs(90)));
    assert_eq!(read("0.5"), Ok(Duration::from_millis(500)));
    for wrong in ["0", "-5", "-5s", "NaN", "inf", "1e300", "soon", "", "9000h"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }

    let probe = flag("probe_interval", "500").unwrap_err();
    assert_eq!(
        probe,
        "--probe-interval: probe_interval: `500` has no unit; write a duration such as 500ms, 60s or 1h"
    );
}

#[test]
fn a_bad_value_is_shown_at_its_line_and_column() {
    refused(
        "node_id: n1\nport: 80a\n",
        &expect![[r#"
        node.yaml: line 2 column 7: port: `80a` is no port: a whole number from 1 to 65535
          |
        2 | port: 80a
          |       ^"#]],
    );
    refused(
        "seed_nodes: [\"127.0.0.1:8081\", nowhere]\n",
        &expect![[r#"
        node.yaml: line 1 column 32: seed_nodes: `nowhere` is no address: host:port with at most 255 bytes, such as 127.0.0.1:8080
          |
        1 | seed_nodes: ["127.0.0.1:8081", nowhere]
          |                                ^"#]],
    );
    refused(
        "read_only: yes\n",
        &expect![[r#"
        node.yaml: line 1 column 12: read_only: `yes` is neither true nor false
          |
        1 | read_only: yes
          |            ^"#]],
    );
    refused(
        "node_id: 'two words'\n",
        &expect![[r#"
        node.yaml: line 1 column 10: node_id: `two words` is no node id: 1 to 64 letters, digits, `.`, `_` or `-`
          |
        1 | node_id: 'two words'
          |          ^"#]],
    );
}

#[test]
fn a_key_that_is_unknown_or_there_twice_is_shown_with_what_may_have_been_meant() {
    refused(
        "port: 8080\nsed_nodes: []\n",
        &expect![[r#"
        node.yaml: line 2 column 1: unknown key `sed_nodes`; did you mean `seed_nodes`?
          |
        2 | sed_nodes: []
          | ^"#]],
    );
    refused(
        "port: 1\nport: 2\n",
        &expect![[r#"
            node.yaml: line 2 column 1: the key `port` is there twice
              |
            2 | port: 2
              | ^"#]],
    );
    let error = flag("prot", "1").unwrap_err();
    assert_eq!(error, "--prot: unknown key `prot`; did you mean `port`?");
    let error = load("", &[("REKNIT_NODEID", "x")], &[]).unwrap_err();
    assert_eq!(error, "REKNIT_NODEID: unknown key `nodeid`; did you mean `node_id`?");
    let error = flag("colour", "blue").unwrap_err();
    assert!(
        error.starts_with("--colour: unknown key `colour`; the keys are node_id, bind_address"),
        "{error}"
    );
}

#[test]
fn what_is_no_mapping_of_keys_to_values_is_refused() {
    refused(
        "port: [\n",
        &expect![[r#"
            node.yaml: line 1 column 7: one plain value is expected here
              |
            1 | port: [
              |       ^"#]],
    );
    refused(
        "- port\n",
        &expect![[r#"
            node.yaml: line 1 column 1: a mapping of keys to values is expected, such as `port: 8080`
              |
            1 | - port
              | ^"#]],
    );
    refused(
        "port: {a: 1}\n",
        &expect![[r#"
            node.yaml: line 1 column 7: one plain value is expected here
              |
            1 | port: {a: 1}
              |       ^"#]],
    );
    refused(
        "data_dir:\n",
        &expect![[r#"
            node.yaml: line 1 column 9: the value is missing; leave the key out to use its default
              |
            1 | data_dir:
              |         ^"#]],
    );
    refused(
        "seed_nodes: 127.0.0.1:8081\n",
        &expect![[r#"
            node.yaml: line 1 column 13: a list is expected here, such as ["127.0.0.1:8081"]
              |
            1 | seed_nodes: 127.0.0.1:8081
              |             ^"#]],
    );
    assert!(load("a: &a [x,x]\nb: [*a,*a]\n", &[], &[]).is_err());
    assert!(
        load(&"#".repeat(70_000), &[], &[]).unwrap_err().contains("the limit of a configuration is 65536")
    );
}

#[test]
fn a_file_of_comments_is_an_empty_configuration() {
    assert_eq!(load("# nothing yet\n", &[], &[]).unwrap().port, 8080);
    assert_eq!(load("", &[], &[]).unwrap().port, 8080);
}

#[test]
fn a_missing_file_is_an_error_and_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");

    let error = Config::load(Some(&path), [], []).unwrap_err();

    assert!(error.to_string().starts_with("cannot read the configuration"), "{error}");
    assert!(!path.exists());
}

#[test]
fn intervals_that_exclude_each_other_are_refused_with_where_they_come_from() {
    let error = load("gossip_interval_max: 30s\n", &[], &[]).unwrap_err();
    assert_eq!(
        error,
        "gossip_interval_min is 60s (default) and gossip_interval_max is 30s (node.yaml: line 1 column 22): \
         the first must not be longer"
    );
    assert!(
        load("probe_interval: 5s\n", &[], &[]).unwrap_err().contains("suspect_timeout is 2500ms (default)")
    );
}

#[test]
fn a_node_that_joins_from_every_interface_must_say_where_it_is_reached() {
    let error = load("bind_address: 0.0.0.0\nseed_nodes: [127.0.0.1:8081]\n", &[], &[]).unwrap_err();
    assert!(error.contains("set advertise_address"), "{error}");

    let config = load("bind_address: '::'\ninsecure_clients: true\n", &[], &[]).unwrap();
    assert_eq!(config.advertise_address.as_str(), "127.0.0.1:8080");
    assert_eq!(config.warnings().len(), 2);
}

#[test]
fn a_node_listens_beyond_its_host_with_tokens_or_a_word_aloud() {
    let file = "bind_address: 192.168.1.10\n";
    assert!(load(file, &[], &[]).unwrap_err().contains("set tokens_file"));
    assert!(load(file, &[], &[("tokens-file", "tokens")]).unwrap().warnings().is_empty());
    assert_eq!(load(file, &[], &[("insecure-clients", "true")]).unwrap().warnings().len(), 1);
}

#[test]
fn peers_on_other_machines_need_a_secret_or_a_word_aloud() {
    let file = "seed_nodes: [192.168.1.10:8080]\n";
    assert!(load(file, &[], &[]).unwrap_err().contains("set cluster_secret"));
    assert!(load(file, &[("REKNIT_CLUSTER_SECRET", "s")], &[]).is_ok());
    assert_eq!(load(file, &[], &[("insecure-peers", "true")]).unwrap().warnings().len(), 1);
}

#[test]
fn a_printed_configuration_reads_back_the_same_and_hides_the_secret() {
    let file = "node_id: 1.10\ncluster_secret: hush\nprobe_interval: 1.5s\nseed_nodes: [a:1, b:2]\n";
    let config = load(file, &[("REKNIT_PORT", "99")], &[("log_format", "json")]).unwrap();

    let printed = config.to_yaml();

    assert!(!printed.contains("hush"), "{printed}");
    assert!(printed.contains("port: 99                                 # REKNIT_PORT\n"), "{printed}");
    let again = load(&printed, &[("REKNIT_CLUSTER_SECRET", "hush")], &[]).unwrap();
    assert_eq!(again.settings(), config.settings());
    assert_eq!(again.listen(), config.listen());
    assert_eq!(again.data_dir, config.data_dir);
    assert_eq!(again.log_format, config.log_format);
}

#[test]
fn policies_are_read_as_mappings_and_as_texts_and_shown_as_texts() {
    let file = "policies:\n  - {prefix: cart/, policy: siblings}\n  - \"a%20b/=lww\"\n  - prefix: log/\n    policy: history\n    strategy: fail\n";

    let config = load(file, &[], &[]).unwrap();
    let again = flag("policies", "cart/=siblings,a%20b/=lww,/log/=history:fail").unwrap();

    assert_eq!(config.policies, again.policies);
    assert_eq!(config.settings().policies.digest(), again.settings().policies.digest());
    let shown = config.to_yaml();
    assert!(shown.contains(r#"policies: ["a%20b/=lww", "cart/=siblings", "log/=history:fail"]"#), "{shown}");
    assert_eq!(load(&shown, &[], &[]).unwrap().policies, config.policies);
}

#[test]
fn a_policy_that_is_none_is_shown_where_it_stands() {
    refused(
        "policies: [{prefix: cart/, policy: sibling}]\n",
        &expect![[r#"
        node.yaml: line 1 column 12: policies: `sibling` is no policy: lww, siblings or history
          |
        1 | policies: [{prefix: cart/, policy: sibling}]
          |            ^"#]],
    );
    refused(
        "policies: [{prefix: cart/}]\n",
        &expect![[r#"
        node.yaml: line 1 column 13: missing field `policy`
          |
        1 | policies: [{prefix: cart/}]
          |             ^"#]],
    );
    refused(
        "policies:\n  - {prefix: a/, policy: lww}\n  - {prefix: /a/, policy: siblings}\n",
        &expect![[r#"
            node.yaml: line 2 column 3: policies: the prefix `a/` has two policies
              |
            2 |   - {prefix: a/, policy: lww}
              |     ^"#]],
    );
    refused(
        "policies: [cart]\n",
        &expect![[r#"
        node.yaml: line 1 column 12: policies: `cart` is no policy of a prefix, such as cart/=siblings or log/=history:fail
          |
        1 | policies: [cart]
          |            ^"#]],
    );
    refused(
        "policies: siblings\n",
        &expect![[r#"
        node.yaml: line 1 column 11: a list is expected here, such as ["127.0.0.1:8081"]
          |
        1 | policies: siblings
          |           ^"#]],
    );
}

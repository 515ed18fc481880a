//! The tables of docs/simulator.md are made from what the program uses. `UPDATE_EXPECT=1 cargo test -p reknit-sim manual`
//! writes them.

use std::sync::Mutex;

/// Tests run side by side, and all tables stand in one file.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Fails unless the manual has `made` between `<!-- NAME -->` and `<!-- end of NAME -->`.
pub fn keeps(name: &str, made: &str) {
    let _turn = ONE_AT_A_TIME.lock();
    let (from, to) = (format!("<!-- {name} -->\n\n"), format!("\n<!-- end of {name} -->"));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/simulator.md");
    let page = std::fs::read_to_string(path).expect("the manual");
    let (before, rest) = page.split_once(&from).expect("the beginning of the table");
    let (_, after) = rest.split_once(&to).expect("the end of the table");
    let whole = format!("{before}{from}{made}{to}{after}");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &whole).expect("written");
    } else {
        assert!(page == whole, "UPDATE_EXPECT=1 brings {name} up to date");
    }
}

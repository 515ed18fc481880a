//! `kv ls`: keys in order, page by page.

use reknit::client::Client;
use reknit::model::key;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::show::{print, print_json, print_table, text, time_text};
use crate::{Failure, Output, not_understood};

/// Most keys that are asked for in one page.
const PAGE_KEYS: usize = 1000;

/// Which keys to list.
pub struct Listing<'a> {
    /// Keys that begin so.
    pub prefix: &'a [u8],
    /// What is up to the next of these is listed once.
    pub delimiter: Option<&'a str>,
    /// From the last to the first.
    pub reverse: bool,
}

impl Listing<'_> {
    /// Prints up to `limit` rows; as text page by page, so that a long listing starts at once.
    pub fn print(&self, client: &Client, output: Output, limit: usize) -> Result<(), Failure> {
        let mut left = limit;
        let mut rows = Vec::new();
        let mut next: Option<String> = None;
        while left > 0 {
            let page = client.read("/kv", &self.parameters(left.min(PAGE_KEYS), next.as_deref()))?;
            let page: Page = serde_json::from_slice(&page).map_err(not_understood)?;
            next = page.next.clone();
            let mut found = self.in_order(page);
            found.truncate(left);
            left -= found.len();
            match output {
                Output::Raw => {
                    let lines: String = found.iter().map(|row| format!("{}\n", name(row))).collect();
                    print(lines.as_bytes())?;
                }
                Output::Table | Output::Json => rows.extend(found),
            }
            if next.is_none() {
                break;
            }
        }
        match output {
            Output::Raw => Ok(()),
            Output::Json => print_json(&Json::Array(rows)),
            Output::Table => print_table(&["KEY", "WRITTEN", "TYPE"], &rows, |row| {
                vec![name(row), time_text(row.get("timestamp")), text(row, "content_type")]
            }),
        }
    }

    /// Keys and common prefixes as one list.
    fn in_order(&self, page: Page) -> Vec<Json> {
        let prefixes = page.prefixes.into_iter().map(|prefix| json!({ "prefix": prefix }));
        let mut rows: Vec<_> = page.items.into_iter().chain(prefixes).collect();
        // Names are percent-encoded, which is another order than that of the bytes.
        rows.sort_by_cached_key(|row| key::decode(&name(row)).unwrap_or_default());
        if self.reverse {
            rows.reverse();
        }
        rows
    }

    fn parameters(&self, limit: usize, next: Option<&str>) -> Vec<(&'static str, Vec<u8>)> {
        let mut parameters = vec![
            ("prefix", self.prefix.to_owned()),
            ("limit", limit.to_string().into()),
            ("keys_only", "true".into()),
        ];
        parameters.extend(self.delimiter.map(|text| ("delimiter", text.into())));
        parameters.extend(self.reverse.then(|| ("reverse", "true".into())));
        parameters.extend(next.map(|cursor| ("cursor", cursor.into())));
        parameters
    }
}

/// One answer of many to a listing.
#[derive(Deserialize)]
struct Page {
    items: Vec<Json>,
    prefixes: Vec<String>,
    next: Option<String>,
}

/// What a row of a listing is called.
fn name(row: &Json) -> String {
    if row.get("prefix").is_some() { text(row, "prefix") } else { text(row, "key") }
}

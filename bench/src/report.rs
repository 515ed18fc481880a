//! What was measured, as tables: on the terminal, as JSON, and as one page with bars.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use comfy_table::{CellAlignment, Table as Terminal, presets};
use serde_json::{Value as Json, json};

/// Rows of figures under one heading.
#[derive(Debug)]
pub struct Table {
    pub title: &'static str,
    /// What was done, in a sentence.
    pub about: String,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<Cell>>,
}

/// One place of a table.
#[derive(Clone, Debug)]
pub enum Cell {
    Text(String),
    /// A figure and how many places after the point to show.
    Figure(f64, usize),
    /// Not measured; why.
    None(&'static str),
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into())
    }

    fn shown(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Figure(figure, places) => grouped(*figure, *places),
            Cell::None(why) => (*why).to_owned(),
        }
    }

    fn json(&self) -> Json {
        match self {
            Cell::Text(text) => json!(text),
            Cell::Figure(figure, _) => json!(figure),
            Cell::None(_) => Json::Null,
        }
    }
}

impl Table {
    pub fn new(title: &'static str, about: impl Into<String>, columns: &[&'static str]) -> Table {
        Table { title, about: about.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub fn print(&self) {
        println!("\n{}\n{}", self.title, self.about);
        let mut terminal = Terminal::new();
        terminal.load_style(presets::UTF8_FULL_CONDENSED).set_header(&self.columns);
        for row in &self.rows {
            terminal.add_row(row.iter().map(Cell::shown));
        }
        for (at, column) in terminal.column_iter_mut().enumerate() {
            if self.rows.iter().all(|row| !matches!(row[at], Cell::Text(_))) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{terminal}");
    }
}

/// Writes `report.json` and `report.html` into a folder.
pub fn write(folder: &Path, tables: &[Table]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let all: Vec<Json> = tables
        .iter()
        .map(|table| {
            let rows: Vec<Json> = table
                .rows
                .iter()
                .map(|row| {
                    table
                        .columns
                        .iter()
                        .zip(row)
                        .map(|(name, cell)| ((*name).to_owned(), cell.json()))
                        .collect()
                })
                .collect();
            json!({ "title": table.title, "about": table.about, "rows": rows })
        })
        .collect();
    std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(&all)?)?;
    std::fs::write(folder.join("report.html"), page(tables)?)?;
    Ok(())
}

fn page(tables: &[Table]) -> Result<String> {
    let mut page = String::from(HEAD);
    for table in tables {
        write!(page, "<h2>{}</h2><p>{}</p><table><tr>", escaped(table.title), escaped(&table.about))?;
        for column in &table.columns {
            write!(page, "<th>{}</th>", escaped(column))?;
        }
        page.push_str("</tr>");
        for row in &table.rows {
            page.push_str("<tr>");
            for (at, cell) in row.iter().enumerate() {
                cell_of_page(&mut page, table, at, cell)?;
            }
            page.push_str("</tr>");
        }
        page.push_str("</table>");
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

/// A figure stands beside a bar as long as its share of the greatest in its column.
fn cell_of_page(page: &mut String, table: &Table, at: usize, cell: &Cell) -> Result<()> {
    let shown = escaped(&cell.shown());
    let Cell::Figure(figure, _) = cell else {
        write!(page, "<td>{shown}</td>")?;
        return Ok(());
    };
    let figures =
        table.rows.iter().map(|row| if let Cell::Figure(figure, _) = row[at] { figure } else { 0.0 });
    let greatest = figures.fold(f64::MIN_POSITIVE, f64::max);
    let share = (figure / greatest * 80.0).clamp(0.0, 80.0);
    write!(
        page,
        "<td class=figure>{shown}<svg width=80 height=6 aria-hidden=true><rect width={share:.1} height=6 rx=2></rect></svg></td>"
    )?;
    Ok(())
}

const HEAD: &str = "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport \
content='width=device-width'><title>reknit bench</title><style>\
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}body{max-width:70rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:.25rem .6rem;text-align:left;\
border-bottom:1px solid #8884;white-space:nowrap}.figure{text-align:right}svg{margin-left:.6rem}rect{fill:#4a8bd6}\
</style></head><body><h1>reknit, measured side by side</h1>";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `1234567.8` as `1,234,568`.
fn grouped(figure: f64, places: usize) -> String {
    let plain = format!("{figure:.places$}");
    let (whole, rest) =
        plain.split_once('.').map_or((plain.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut shown = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && digit.is_ascii_digit() && !shown.ends_with('-') {
            shown.push(',');
        }
        shown.push(digit);
    }
    if let Some(rest) = rest {
        shown.push('.');
        shown.push_str(rest);
    }
    shown
}

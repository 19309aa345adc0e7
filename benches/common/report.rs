//! What a bench is told, and how it prints its figures. It never judges them: machines differ.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

/// The command line of a bench.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How often to measure, or how many of it to make.
    pub(crate) count: usize,
    json: bool,
}

impl Options {
    /// Reads `[--count N] [--json]`. Cargo adds `--bench`, which says nothing here.
    pub(crate) fn parse(default_count: usize) -> Self {
        let mut options = Self { count: default_count, json: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--json" => options.json = true,
                "--count" => {
                    let count =
                        arguments.next().and_then(|text| text.parse().ok()).filter(|count| *count > 0);
                    options.count = count.expect("--count needs a number above zero");
                }
                other => panic!("unknown argument {other}; usage: [--count N] [--json]"),
            }
        }
        options
    }
}

/// Figures of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Returns the middle one, or the mean of the middle two; NaN if there is none.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

impl Extend<f64> for Samples {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, figures: I) {
        self.0.extend(figures);
    }
}

/// Times are kept in milliseconds.
impl Extend<Duration> for Samples {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, times: I) {
        self.0.extend(times.into_iter().map(|time| time.as_secs_f64() * 1e3));
    }
}

#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    samples: Samples,
}

/// A table of figures with remarks.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    options: Options,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(name: &'static str, options: Options) -> Self {
        let mut report = Self { name, options, rows: Vec::new(), notes: Vec::new() };
        if let Some(load) = load().filter(|load| *load > 0.5) {
            report.note(format!("the machine was busy before: load average {load}"));
        }
        report
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, unit: &'static str, samples: &Samples) {
        self.rows.push(Row { name: name.into(), unit, samples: samples.clone() });
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    #[expect(clippy::print_stdout, reason = "figures are what a bench is for")]
    pub(crate) fn print(&self) {
        if self.options.json {
            println!("{}", self.to_json());
        } else {
            print!("{}", self.to_text());
        }
    }

    fn to_json(&self) -> Value {
        let row = |row: &Row| {
            let sorted = row.samples.sorted();
            json!({
                "name": row.name, "unit": row.unit, "n": sorted.len(),
                "median": row.samples.median(), "min": sorted.first(), "max": sorted.last(),
            })
        };
        json!({
            "bench": self.name,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    fn to_text(&self) -> String {
        let width =
            self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(self.name.len());
        let mut lines = vec![format!(
            "{:width$}  {:>10} {:>10} {:>10}  {:4}  {:>3}",
            self.name, "median", "min", "max", "", "n"
        )];
        for row in &self.rows {
            let sorted = row.samples.sorted();
            let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else { continue };
            let (name, median, unit, n) = (&row.name, row.samples.median(), row.unit, sorted.len());
            lines.push(format!("{name:width$}  {median:>10.2} {min:>10.2} {max:>10.2}  {unit:4}  {n:>3}"));
        }
        lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        lines.push(String::new());
        lines.join("\n")
    }
}

/// Returns the load average of the last minute.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

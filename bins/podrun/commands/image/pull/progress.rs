//! The progress of a pull, on standard error: bars on a terminal, lines elsewhere, or JSON.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use podrun_image::Digest;
use podrun_image::pull::{Progress, Report};
use serde_json::{Value, json};

use crate::cli::ProgressFormat;
use crate::output::{bytes, harmless};
use crate::print::eprintln;

/// Layers that have a bar of their own; the others are in the total alone.
const MAX_BARS: usize = 20;

/// Who tells the user. What is on the screen goes when it is dropped.
pub(super) struct Teller {
    report: Report,
    bars: Option<Arc<Mutex<Bars>>>,
}

impl Teller {
    /// Tells about the pull of one image.
    pub(super) fn new(format: ProgressFormat, image: &str) -> Self {
        let image = image.to_owned();
        let plain = |report| Self { report, bars: None };
        match format {
            ProgressFormat::None => plain(Report::default()),
            ProgressFormat::Json => {
                plain(Report::new(move |progress| eprintln!("{}", document(&image, &progress))))
            }
            ProgressFormat::Auto if std::io::stderr().is_terminal() => {
                let bars = Arc::new(Mutex::new(Bars::new(&image)));
                let shown = Arc::clone(&bars);
                let report = Report::new(move |progress| {
                    shown.lock().unwrap_or_else(PoisonError::into_inner).show(&progress);
                });
                Self { report, bars: Some(bars) }
            }
            ProgressFormat::Auto | ProgressFormat::Plain => plain(Report::new(move |progress| {
                if let Some(line) = line(&image, &progress) {
                    eprintln!("{line}");
                }
            })),
        }
    }

    /// Returns whom a pull has to tell.
    pub(super) fn report(&self) -> Report {
        self.report.clone()
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(bars) = &self.bars {
            bars.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

/// A bar for each layer, and one for all.
struct Bars {
    screen: MultiProgress,
    total: ProgressBar,
    layers: HashMap<Digest, Layer>,
}

struct Layer {
    size: u64,
    received: u64,
    bar: Option<ProgressBar>,
}

impl Bars {
    fn new(image: &str) -> Self {
        let screen = MultiProgress::new();
        let total = screen.add(ProgressBar::no_length());
        total.set_style(style("{prefix}  {spinner} {msg}"));
        total.set_prefix(harmless(image));
        total.set_message("asking the registry");
        total.enable_steady_tick(Duration::from_millis(100));
        Self { screen, total, layers: HashMap::new() }
    }

    fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Layers { layers } => self.begin(layers),
            Progress::Present { layer } => self.end(layer, "already here"),
            Progress::Waiting { layer } => self.say(layer, "another pull fetches it"),
            Progress::Received { layer, bytes } => self.receive(layer, *bytes),
            Progress::Retrying { layer, .. } => self.say(layer, "trying again"),
            Progress::Done { layer } => self.end(layer, "done"),
            Progress::Committing => self.total.set_message("writing to disk"),
            _ => {}
        }
    }

    fn begin(&mut self, layers: &[(Digest, u64)]) {
        let mut sum = 0_u64;
        for (digest, size) in layers {
            if self.layers.contains_key(digest) {
                continue;
            }
            sum = sum.saturating_add(*size);
            let bar = (self.layers.len() < MAX_BARS).then(|| {
                let bar = self.screen.insert_before(&self.total, ProgressBar::new(*size));
                bar.set_style(style("{prefix}  [{bar:30}] {bytes:>10}/{total_bytes:<10} {msg}"));
                bar.set_prefix(short(digest));
                bar.tick();
                bar
            });
            self.layers.insert(*digest, Layer { size: *size, received: 0, bar });
        }
        self.total.set_length(sum);
        self.total
            .set_style(style("{prefix}  {bytes}/{total_bytes}  {binary_bytes_per_sec}  {elapsed}  {msg}"));
        self.total.set_message("");
    }

    fn receive(&mut self, layer: &Digest, bytes: u64) {
        let Some(layer) = self.layers.get_mut(layer) else { return };
        layer.received = bytes.min(layer.size);
        if let Some(bar) = &layer.bar {
            bar.set_position(layer.received);
        }
        self.total.set_position(self.layers.values().map(|layer| layer.received).sum());
    }

    fn say(&self, layer: &Digest, what: &'static str) {
        if let Some(bar) = self.layers.get(layer).and_then(|layer| layer.bar.as_ref()) {
            bar.set_message(what);
        }
    }

    fn end(&mut self, layer: &Digest, what: &'static str) {
        let size = self.layers.get(layer).map_or(0, |layer| layer.size);
        self.receive(layer, size);
        self.say(layer, what);
    }

    fn clear(&self) {
        // A terminal that is gone needs no clearing.
        let _ = self.screen.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates of this file are valid")
        .progress_chars("=> ")
}

/// Returns the line for a step, if it is worth one.
fn line(image: &str, progress: &Progress) -> Option<String> {
    Some(match progress {
        Progress::Resolved { digest } => format!("{image}: {digest}"),
        Progress::Layers { layers } => {
            let size = layers.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
            let s = if layers.len() == 1 { "" } else { "s" };
            format!("{image}: {} layer{s}, {}", layers.len(), bytes(size))
        }
        Progress::Present { layer } => format!("{}: already here", short(layer)),
        Progress::Waiting { layer } => format!("{}: another pull fetches it", short(layer)),
        Progress::Retrying { layer, reason } => {
            format!("{}: trying again: {}", short(layer), harmless(reason))
        }
        Progress::Done { layer } => format!("{}: done", short(layer)),
        _ => return None,
    })
}

/// Returns a step as JSON.
fn document(image: &str, progress: &Progress) -> Value {
    match progress {
        Progress::Resolved { digest } => json!({"step": "resolved", "image": image, "digest": digest}),
        Progress::Layers { layers } => {
            let layer = |(digest, size): &(Digest, u64)| json!({"digest": digest, "size": size});
            json!({"step": "layers", "image": image, "layers": layers.iter().map(layer).collect::<Vec<_>>()})
        }
        Progress::Present { layer } => json!({"step": "present", "image": image, "layer": layer}),
        Progress::Waiting { layer } => json!({"step": "waiting", "image": image, "layer": layer}),
        Progress::Received { layer, bytes } => {
            json!({"step": "received", "image": image, "layer": layer, "bytes": bytes})
        }
        Progress::Retrying { layer, reason } => {
            json!({"step": "retrying", "image": image, "layer": layer, "reason": reason})
        }
        Progress::Done { layer } => json!({"step": "done", "image": image, "layer": layer}),
        Progress::Committing => json!({"step": "committing", "image": image}),
        other => json!({"step": format!("{other:?}"), "image": image}),
    }
}

fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_in_lines_and_objects() {
        let layer = Digest::of(b"");
        let line = |progress: &Progress| line("busybox:1", progress);
        let layers = Progress::Layers { layers: vec![(layer, 1_500_000), (layer, 500_000)] };
        assert_eq!(line(&layers).as_deref(), Some("busybox:1: 2 layers, 2.0MB"));
        assert_eq!(line(&Progress::Received { layer, bytes: 5 }), None);
        let retrying = Progress::Retrying { layer, reason: "a\u{1b}[2J".to_owned() };
        assert_eq!(line(&retrying).as_deref(), Some("e3b0c44298fc: trying again: a^[[2J"));
        assert_eq!(
            document("busybox:1", &Progress::Received { layer, bytes: 5 }),
            json!({"step": "received", "image": "busybox:1", "layer": layer.to_string(), "bytes": 5})
        );
    }

    #[test]
    fn bars_add_up() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let mut bars = Bars::new("busybox:1");
        bars.show(&Progress::Layers { layers: vec![(one, 10), (two, 20), (one, 10)] });
        bars.show(&Progress::Received { layer: one, bytes: 4 });
        bars.show(&Progress::Present { layer: two });
        assert_eq!((bars.total.position(), bars.total.length()), (24, Some(30)));
    }
}

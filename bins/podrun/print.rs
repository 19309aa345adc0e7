//! Standard output, where results go, and standard error.
//!
//! Whoever reads may have gone away (`| head`), and the disk behind a file may be full. Neither ends a command in the
//! middle of its work: it prints no more, those that only print end, and [`failure`] tells `main` what was lost.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::OnceLock;

/// The first error of standard output.
static SHUT: OnceLock<io::Error> = OnceLock::new();

/// Prints on standard output, as std's macro does, without its panic.
macro_rules! put {
    ($($text:tt)*) => { $crate::print::text(format_args!($($text)*)) };
}

/// Prints a line on standard output.
macro_rules! put_line {
    ($($text:tt)*) => { $crate::print::text(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints on standard error, if it can be printed.
macro_rules! tell {
    ($($text:tt)*) => { $crate::print::error_text(format_args!($($text)*)) };
}

/// Prints a line on standard error, if it can be printed.
macro_rules! tell_line {
    ($($text:tt)*) => { $crate::print::error_text(format_args!("{}\n", format_args!($($text)*))) };
}

pub(crate) use {put as print, put_line as println, tell as eprint, tell_line as eprintln};

/// Prints on standard output.
pub(crate) fn text(text: Arguments<'_>) {
    let mut output = anstream::stdout().lock();
    keep(output.write_fmt(text).and_then(|()| output.flush()));
}

/// Prints bytes on standard output as they are; false once nobody takes them.
pub(crate) fn bytes(bytes: &[u8]) -> bool {
    write(&mut io::stdout().lock(), bytes)
}

/// Writes to what stands for standard output; false once nobody takes it.
pub(crate) fn write(output: &mut impl Write, bytes: &[u8]) -> bool {
    keep(output.write_all(bytes).and_then(|()| output.flush()))
}

/// Prints on standard error. There is nobody to tell if that fails.
pub(crate) fn error_text(text: Arguments<'_>) {
    let _ = anstream::stderr().lock().write_fmt(text);
}

/// Returns whether nobody takes what is printed any more.
pub(crate) fn is_shut() -> bool {
    SHUT.get().is_some()
}

/// Returns why results were lost; a reader who has gone away has lost nothing that it wanted.
pub(crate) fn failure() -> Option<&'static io::Error> {
    SHUT.get().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

fn keep(written: io::Result<()>) -> bool {
    match written {
        Ok(()) => true,
        Err(error) => {
            // The first one tells more than those that follow from it.
            let _ = SHUT.set(error);
            false
        }
    }
}

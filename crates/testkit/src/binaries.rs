//! Where the programs under test are.

use std::path::PathBuf;

/// Returns the path of the built `podrun`.
///
/// # Panics
/// If it was not built; cargo builds it before it runs the tests of the package that defines it.
pub fn podrun_bin() -> PathBuf {
    binary("podrun")
}

/// Returns the path of the built `podrun-init`.
///
/// # Panics
/// If it was not built.
pub fn init_bin() -> PathBuf {
    binary("podrun-init")
}

fn binary(name: &str) -> PathBuf {
    // Cargo tells tests of the package itself; a caller in another package may set it by hand.
    if let Some(path) = std::env::var_os(format!("CARGO_BIN_EXE_{name}")) {
        return PathBuf::from(path);
    }
    // Tests are at target/<profile>/deps/<test> and examples beside deps; programs one level up.
    let test = std::env::current_exe().expect("a test knows its own path");
    let found = test.ancestors().skip(1).take(3).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not above {}: build it with `cargo build --package podrun --bins`", test.display())
    })
}

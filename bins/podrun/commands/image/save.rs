//! `podrun image save`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use podrun_engine::Engine;
use podrun_image::{ArchiveFormat, Store};

use crate::cli::{SaveArgs, SaveFormat};
use crate::exit_code::Code;
use crate::report::{CommandError, CommandResult};

pub(super) fn run(engine: &Engine, args: &SaveArgs) -> CommandResult {
    let images: Vec<&str> = args.images.iter().map(String::as_str).collect();
    let store = engine.images()?;
    let format = match args.format {
        SaveFormat::DockerArchive => ArchiveFormat::Docker,
        SaveFormat::OciArchive => ArchiveFormat::Oci,
        SaveFormat::OciDir => {
            let dir = args.output.as_deref().ok_or_else(|| {
                CommandError::new(Code::Usage, "--format oci-dir needs --output, the directory to make")
            })?;
            return save_layout(&store, &images, dir);
        }
    };
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => save_file(&store, &images, format, path),
        None if io::stdout().is_terminal() => Err(CommandError::new(
            Code::Usage,
            "an archive is not for terminals: redirect standard output or use --output",
        )),
        None => {
            store.save(&images, format, io::stdout().lock())?;
            Ok(Code::Ok)
        }
    }
}

/// Writes beside the file and renames at the end, so that there is a whole archive or what was there before.
fn save_file(store: &Store, images: &[&str], format: ArchiveFormat, path: &Path) -> CommandResult {
    let special = fs::metadata(path).is_ok_and(|meta| {
        let kind = meta.file_type();
        kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket()
    });
    if special {
        let file =
            File::options().write(true).open(path).map_err(|error| CommandError::io("open", path, &error))?;
        store.save(images, format, BufWriter::new(file))?;
        return Ok(Code::Ok);
    }
    let unfinished = unfinished(path);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&unfinished)
        .map_err(|error| CommandError::io("create", &unfinished, &error))?;
    let saved = write_all(store, images, format, file, &unfinished).and_then(|()| {
        fs::rename(&unfinished, path).map_err(|error| CommandError::io("rename", &unfinished, &error))
    });
    if saved.is_err() {
        // The error that matters is the one before.
        let _ = fs::remove_file(&unfinished);
    }
    saved.map(|()| Code::Ok)
}

fn write_all(
    store: &Store,
    images: &[&str],
    format: ArchiveFormat,
    file: File,
    path: &Path,
) -> Result<(), CommandError> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    store.save(images, format, &mut out)?;
    out.flush()
        .and_then(|()| out.get_ref().sync_all())
        .map_err(|error| CommandError::io("write", path, &error))
}

fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn save_layout(store: &Store, images: &[&str], dir: &Path) -> CommandResult {
    if fs::symlink_metadata(dir).is_ok() {
        let message = format!("{} is there already", dir.display());
        return Err(CommandError::new(Code::Conflict, message));
    }
    let unfinished = unfinished(dir);
    let saved = store.save_layout(images, &unfinished).map_err(CommandError::from).and_then(|()| {
        fs::rename(&unfinished, dir).map_err(|error| CommandError::io("rename", &unfinished, &error))
    });
    if saved.is_err() {
        // The error that matters is the one before.
        let _ = fs::remove_dir_all(&unfinished);
    }
    saved.map(|()| Code::Ok)
}

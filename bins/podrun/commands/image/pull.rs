//! `podrun image pull`: images from registries.

mod progress;

use std::path::PathBuf;

use podrun_engine::Engine;
use podrun_image::registry::{Client, Keyring, RegistryError};
use podrun_image::{PullError, PullOptions, Pulled};

use self::progress::Teller;
use crate::cli::{ProgressFormat, PullArgs};
use crate::exit_code::Code;
use crate::print::println;
use crate::report::{self, CommandError, CommandResult};

pub(super) fn run(engine: &Engine, args: &PullArgs) -> CommandResult {
    podrun_engine::return_large_blocks();
    let store = engine.images()?;
    let (registries, of_machine) = engine.registries()?;
    let client = Client::new(registries);
    let mut options = PullOptions::default();
    options.keyring = credentials(args)?;
    options.keyring.extend(of_machine);
    options.parallel = args.parallel.into();
    if let Some(platform) = &args.platform {
        options.platform = super::parse_platform(platform)?;
    }
    let format = if args.quiet { ProgressFormat::None } else { args.progress };
    for image in &args.images {
        let reference = super::reference(image)?;
        let teller = Teller::new(format, &reference.familiar());
        options.report = teller.report();
        let pulled = store.pull_blocking(&client, &reference, &options);
        drop(teller);
        let pulled = pulled.map_err(|error| failure(image, error))?;
        tell(args, &reference.familiar(), &pulled);
    }
    Ok(Code::Ok)
}

fn tell(args: &PullArgs, name: &str, pulled: &Pulled) {
    if args.quiet {
        println!("{}", pulled.digest);
        return;
    }
    println!("Digest: {}", pulled.digest);
    let status = if pulled.unchanged { "Image is up to date" } else { "Pulled image" };
    println!("{status}: {name}");
    super::load::tell_skipped(name, pulled.skipped);
}

/// Returns the user's credentials: those of the given file, or those that logins have left.
fn credentials(args: &PullArgs) -> Result<Keyring, CommandError> {
    let read = |path: &PathBuf| {
        Keyring::read(path).map_err(|error| {
            CommandError::new(
                Code::Failure,
                format!("credentials in {}: {}", path.display(), report::chain(&error)),
            )
        })
    };
    if let Some(path) = &args.authfile {
        let absent = || CommandError::new(Code::NotFound, format!("{}: no such file", path.display()));
        return read(path)?.ok_or_else(absent);
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(home.clone()?.join(".docker")));
    let files = [
        variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        variable("XDG_CONFIG_HOME")
            .or_else(|| Some(home.clone()?.join(".config")))
            .map(|dir| dir.join("containers/auth.json")),
        docker.map(|dir| dir.join("config.json")),
    ];
    let mut keyring = Keyring::default();
    for path in files.into_iter().flatten() {
        keyring.extend(read(&path)?.unwrap_or_default());
    }
    Ok(keyring)
}

fn failure(image: &str, error: PullError) -> CommandError {
    let code = match error.registry() {
        Some(cause) if cause.is_not_found() => Code::NotFound,
        _ => Code::Failure,
    };
    let hint = match error.registry().map(innermost) {
        Some(RegistryError::Tls { host, .. }) => Some(format!(
            "in registries.toml, below [registry.\"{host}\"], `ca = \"FILE\"` is for a certificate of your own and \
             `plain-http = true` for no TLS"
        )),
        Some(RegistryError::Denied { .. }) => {
            Some("log in with `podman login` or `docker login`, or name a file with --authfile".to_owned())
        }
        _ => None,
    };
    let shown = CommandError::new(code, format!("pull {image}: {}", report::chain(&error)));
    match hint {
        Some(hint) => shown.with_hint(hint),
        None => shown,
    }
}

/// Returns what a request failed of.
fn innermost(error: &RegistryError) -> &RegistryError {
    match error {
        RegistryError::Request { source, .. } | RegistryError::Token { source, .. } => innermost(source),
        other => other,
    }
}

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context as _;
use rand::{TryRng, rngs::SysRng};
use service_runtime::{Secret, settings::DatabaseKind};
use shared_types::Invalid;

use crate::context::{Context, UsageError};

/// The file of the pepper for the embedded database, in the same directory.
const FILE: &str = "api-key-pepper";

/// The pepper of stored API keys: `API_KEY_PEPPER`, or for the embedded database a file beside it, which is created at
/// the first use. So a copy of the database alone does not contain a usable key.
pub(crate) fn pepper(context: &Context) -> anyhow::Result<Secret> {
    const SHORTEST: usize = 32;
    if let Some(pepper) = context
        .variables
        .secret("API_KEY_PEPPER", SHORTEST)
        .map_err(UsageError)?
    {
        return Ok(pepper);
    }
    match &context.settings.database.kind {
        DatabaseKind::Sqlite { path } => {
            let file = path.with_file_name(FILE);
            read_or_draw(&file).with_context(|| format!("the pepper of API keys, {}", file.display()))
        }
        DatabaseKind::Postgres { .. } => {
            let expected = "32 characters or more, the same for every service and command; `openssl rand -hex 32` makes one";
            Err(UsageError(Invalid::new("API_KEY_PEPPER", "nothing", expected)).into())
        }
    }
}

fn read_or_draw(file: &Path) -> anyhow::Result<Secret> {
    match fs::read_to_string(file) {
        Ok(pepper) => return Ok(Secret::new(pepper.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes)?;
    let pepper: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
    {
        Ok(mut new) => {
            new.write_all(pepper.as_bytes())?;
            new.sync_all()?;
            Ok(Secret::new(pepper))
        }
        // Another process has created the file meanwhile: its pepper is the valid one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(Secret::new(fs::read_to_string(file)?.trim().to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pepper_is_drawn_once_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new").join(FILE);
        let first = read_or_draw(&file).unwrap();
        assert_eq!(first.expose().len(), 64);
        assert_eq!(read_or_draw(&file).unwrap(), first);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

//! Unpacks the files of Swagger UI that `/docs` serves, so that they are compiled in.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, Cursor},
    path::Path,
};

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

const FILES: [&str; 7] = [
    "index.html",
    "index.css",
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "favicon-16x16.png",
    "favicon-32x32.png",
];

#[expect(
    clippy::disallowed_methods,
    reason = "this is how cargo talks to a build script"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = Path::new(&env::var("OUT_DIR")?).join("swagger-ui");
    fs::create_dir_all(&folder)?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    for name in FILES {
        // The archive's one folder is named after the version.
        let path = archive
            .file_names()
            .filter_map(Result::ok)
            .find(|path| {
                path.strip_suffix(name)
                    .is_some_and(|folder| folder.matches('/').count() == 2 && folder.ends_with("/dist/"))
            })
            .ok_or_else(|| format!("Swagger UI's archive has no dist/{name}"))?
            .into_owned();
        io::copy(
            &mut archive.by_name(&path)?,
            &mut File::create(folder.join(name))?,
        )?;
    }
    Ok(())
}

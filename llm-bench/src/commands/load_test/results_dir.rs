use std::path::Path;

use anyhow::Context as _;

use super::options::LoadTest;

/// The directory for the results, which is created where it is missing; `None` where nothing is to be written.
pub(super) fn results_dir(options: &LoadTest) -> anyhow::Result<Option<&Path>> {
    let directory = Path::new(&options.results_dir);
    if directory.as_os_str().is_empty() {
        return Ok(None);
    }
    std::fs::create_dir_all(directory)
        .with_context(|| format!("--results-dir: cannot make {}", directory.display()))?;
    Ok(Some(directory))
}

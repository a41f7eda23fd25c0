//! What is committed of the corpora, and what they begin with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::Target;

/// The directory of a target's committed corpus.
pub fn directory(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The committed inputs of a target, with their files.
///
/// # Errors
/// One of them cannot be read.
pub fn committed(target: &Target) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory(target))? {
        files.push(entry?.path());
    }
    files.sort();
    files.into_iter().map(|file| Ok((file.clone(), fs::read(file)?))).collect()
}

/// Writes what a target's corpus begins with, and its words in libFuzzer's form in a file beside the directory.
///
/// # Errors
/// A file cannot be written.
pub fn seed(target: &Target, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let write = |path: PathBuf, bytes: &[u8]| {
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    };
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        write(directory.join(format!("seed-{number:04}")), &seed)?;
    }
    let quoted = (target.words)().into_iter().map(|word| {
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let written = word.bytes().map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("\\x{byte:02x}"),
        });
        format!("\"{}\"\n", written.collect::<String>())
    });
    write(directory.with_extension("words"), quoted.collect::<String>().as_bytes())
}

//! `kv export`, `import` and `backup`: what has any length, to and from files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use reknit::client::{Client, ClientError};

use crate::Failure;

/// Bytes that are moved at once.
const PART_BYTES: usize = 64 << 10;

/// Writes an answer to a file, which is replaced only once all of it is durable, or to standard output.
pub fn save(
    client: &Client,
    path: &str,
    parameters: &[(&str, Vec<u8>)],
    file: Option<&Path>,
) -> Result<(), Failure> {
    let mut answer = client.open(path, parameters)?;
    let Some(file) = file else { return copy(&mut answer, &mut io::stdout().lock(), "standard output") };
    let name = file.display().to_string();
    let failed = |error| Failure::Io(name.clone(), error);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    copy(&mut answer, part.as_file_mut(), &name)?;
    part.as_file().sync_all().map_err(failed)?;
    part.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}

fn copy(from: &mut dyn Read, to: &mut dyn Write, name: &str) -> Result<(), Failure> {
    let mut part = vec![0; PART_BYTES];
    loop {
        // An answer that breaks off is no end of it.
        let broken = |error: io::Error| ClientError::Unreachable(format!("the answer broke off: {error}"));
        let bytes = from.read(&mut part).map_err(broken)?;
        if bytes == 0 {
            return to.flush().map_err(|error| Failure::Io(name.to_owned(), error));
        }
        to.write_all(&part[..bytes]).map_err(|error| Failure::Io(name.to_owned(), error))?;
    }
}

/// Sends a file, or standard input for `-`, and returns the node's summary.
pub fn import(client: &Client, file: &Path) -> Result<Vec<u8>, Failure> {
    if file == Path::new("-") {
        return Ok(client.post_stream("/import", &mut io::stdin().lock())?);
    }
    let mut opened = File::open(file).map_err(|error| Failure::Io(file.display().to_string(), error))?;
    Ok(client.post_stream("/import", &mut opened)?)
}

//! `GET /backup`: one durable state of the whole disk, while the node goes on.
//!
//! The state is written beside the data at the disk's own speed and sent from there, so that a slow client holds a
//! file and not a snapshot: an old snapshot keeps the engine from reusing its pages.

use std::io::{BufWriter, Seek, SeekFrom};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use super::params::Params;
use super::problem::{Code, Problem};
use super::{Shared, body};
use crate::storage::backup::{self, BackupError, Counted};

/// Bytes read from the file at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// `GET /backup`
pub async fn backup(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let place = shared.transfer()?;
    // Not among the scans, or a few backups would hold up every listing; the thread has the place with it, because its
    // client may be gone before it is done.
    let spooled = shared.beside(|shared| Ok((spool(shared)?, place))).await?;
    let ((file, Counted { rows, bytes }), place) = spooled;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.reknit.backup"));
    headers.insert(CONTENT_LENGTH, bytes.into());
    headers.insert("x-reknit-rows", rows.into());
    let name = format!("attachment; filename=\"{}.reknit\"", shared.app.info.id);
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    // The file is gone with its last reader.
    let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES);
    Ok((headers, body::Held::body(Body::from_stream(stream), place)).into_response())
}

/// Writes one snapshot to a file without a name, which is gone when nobody reads it any more.
fn spool(shared: &Shared) -> Result<(std::fs::File, Counted), Problem> {
    let failed =
        |error: std::io::Error| Problem::new(Code::StorageFailed, format!("no room to stand: {error}"));
    let mut file = tempfile::tempfile_in(&shared.app.spool_dir).map_err(failed)?;
    let mut out = BufWriter::with_capacity(CHUNK_BYTES, &mut file);
    let written = shared.app.reader.snapshot(|store| Ok(backup::write(store, &mut out)))?;
    let counted = written.map_err(|error| match error {
        BackupError::Io(error) => failed(error),
        BackupError::Storage(error) => error.into(),
        BackupError::Damaged(_) | BackupError::NotEmpty => Problem::new(Code::Internal, error.to_string()),
    })?;
    out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok((file, counted))
}

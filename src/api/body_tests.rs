use std::sync::Arc;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::Held;

#[tokio::test]
async fn room_is_kept_by_bytes_that_outlive_their_body() {
    let places = Arc::new(Semaphore::new(1));
    let room = Arc::clone(&places).try_acquire_owned().unwrap();
    let mut body = Held::body(Body::from("queued"), room);
    let frame = body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(places.available_permits(), 0, "its bytes are not with the system yet");
    assert_eq!(&frame.into_data().unwrap()[..], b"queued");
    assert_eq!(places.available_permits(), 1);
}

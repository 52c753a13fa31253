//! Asks a running agent over its control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Exit;

/// Where an agent answers unless it was told otherwise.
pub(super) const DEFAULT_CONTROL: &str = "/run/vipd/control.sock";

/// Which agent is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Agent {
    /// Where the agent's control socket is
    #[arg(long, value_name = "PATH", default_value = DEFAULT_CONTROL)]
    pub(super) control: PathBuf,
}

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// Nobody listens.
    #[error("no agent answers at {path}: is it running? (systemctl status vipd){}", hint(.error))]
    NoAgent {
        /// The control socket.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The socket is not for this user.
    #[error("{path}: permission denied; it is for root and the group vipd")]
    NotPermitted {
        /// The control socket.
        path: String,
    },
    /// The agent, or what poses as one, answered nonsense or too late.
    #[error("the agent at {path} gave no proper answer: {reason}")]
    Improper {
        /// The control socket.
        path: String,
        /// What was wrong with it.
        reason: String,
    },
}

impl NoAnswer {
    /// The exit code that says so.
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::NoAgent { .. } => Exit::NoAgent,
            Self::NotPermitted { .. } => Exit::NotPermitted,
            Self::Improper { .. } => Exit::Refused,
        }
    }
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => String::new(),
        _ => format!(": {error}"),
    }
}

/// Gets a document.
///
/// # Errors
///
/// See [`NoAnswer`].
pub(super) fn get<T: DeserializeOwned>(control: &Path, route: &str) -> Result<T, NoAnswer> {
    match request(control, Method::GET, route)? {
        Answer::Document(document) => Ok(document),
        Answer::Refusal(status, text) => Err(refused(control, status, &text)),
    }
}

/// What an agent answers.
pub(super) enum Answer<T> {
    /// What was asked for.
    Document(T),
    /// Why there is none.
    Refusal(StatusCode, String),
}

/// An answer that a command has no better words for.
pub(super) fn refused(control: &Path, status: StatusCode, text: &str) -> NoAnswer {
    NoAnswer::Improper { path: control.display().to_string(), reason: format!("{status}: {text}") }
}

/// Asks for something to be done, or for a document.
///
/// # Errors
///
/// See [`NoAnswer`].
pub(super) fn request<T: DeserializeOwned>(control: &Path, method: Method, route: &str) -> Result<Answer<T>, NoAnswer> {
    exchange(control, method, route, Vec::new(), PATIENCE)
}

/// Asks for something to be done, with a JSON document that says what.
///
/// # Errors
///
/// See [`NoAnswer`].
pub(super) fn post<T: DeserializeOwned>(control: &Path, route: &str, body: Vec<u8>) -> Result<Answer<T>, NoAnswer> {
    exchange(control, Method::POST, route, body, PATIENCE)
}

/// The same for what takes its time.
///
/// # Errors
///
/// See [`NoAnswer`].
pub(super) fn post_and_wait<T: DeserializeOwned>(
    control: &Path,
    route: &str,
    body: Vec<u8>,
    patience: Duration,
) -> Result<Answer<T>, NoAnswer> {
    exchange(control, Method::POST, route, body, patience)
}

fn exchange<T: DeserializeOwned>(
    control: &Path,
    method: Method,
    route: &str,
    body: Vec<u8>,
    patience: Duration,
) -> Result<Answer<T>, NoAnswer> {
    let improper = |reason: String| NoAnswer::Improper { path: control.display().to_string(), reason };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| improper(error.to_string()))?;
    let (status, body) = runtime.block_on(async {
        match tokio::time::timeout(patience, ask(control, method, route, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(improper(format!("none within {patience:?}"))),
        }
    })?;
    match status {
        StatusCode::OK => {
            serde_json::from_slice(&body).map(Answer::Document).map_err(|error| improper(error.to_string()))
        }
        status => Ok(Answer::Refusal(status, String::from_utf8_lossy(&body).into_owned())),
    }
}

async fn ask(control: &Path, method: Method, route: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), NoAnswer> {
    let path = || control.display().to_string();
    let improper = |error: hyper::Error| NoAnswer::Improper { path: path(), reason: error.to_string() };
    let stream = UnixStream::connect(control).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => NoAnswer::NotPermitted { path: path() },
        _ => NoAnswer::NoAgent { path: path(), error },
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(improper)?;
    let request = Request::builder()
        .method(method)
        .uri(route)
        .header(header::HOST, "vipd")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| NoAnswer::Improper { path: path(), reason: error.to_string() })?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
    };
    let (answer, _closed) = tokio::join!(answer, connection);
    answer.map_err(improper)
}

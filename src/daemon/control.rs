//! The control socket: HTTP and JSON over a unix socket, for `vipd status`, `reload`, `drain`, `undrain` and machines.
//!
//! Serves on a thread of its own. It decides nothing: it asks the loop, and passes the answer on.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::alert_accounts::Accounts;
use super::handovers::{HandoverOutcome, HandoverRequest};
use super::memory::Changed;
use super::message::{HoldChange, Message};
use super::reload::{Refusal, Reloaded, Reloader};
use super::status::Status;

/// How long the loop may take to answer. It answers within microseconds, or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a handover may take: it waits for a hook of the successor and then for one of the owner, which take ten minutes each at most.
pub const HANDOVER_PATIENCE: Duration = Duration::from_secs(1_220);

/// What `vipd drain` and `vipd undrain` ask for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Which vip; all of them where there is none.
    pub vip: Option<String>,
    /// For how long, milliseconds; not for an undrain.
    #[serde(default)]
    pub time_ms: Option<u64>,
}

/// The socket, bound but not served yet.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds it, in place of one that a killed agent left.
    ///
    /// # Errors
    ///
    /// `AddrInUse` where an agent answers there; else what the system refuses.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        if let Ok(metadata) = std::fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
            }
            if StdUnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "an agent is running already, and answers there"));
            }
            std::fs::remove_file(path)?;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        // Root and the agent's group, nobody else.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until the runtime ends.
    pub(super) async fn serve(
        self,
        to_loop: mpsc::Sender<Message>,
        reloader: Reloader,
        alerts: Accounts,
    ) -> io::Result<()> {
        let statuses = Router::new().route("/v1/status", get(status)).with_state((to_loop.clone(), alerts));
        let holds = Router::new()
            .route("/v1/drain", post(drain))
            .route("/v1/undrain", post(undrain))
            .with_state(to_loop.clone());
        let handovers = Router::new().route("/v1/handover", post(hand_over)).with_state(to_loop);
        let reloads = Router::new().route("/v1/reload", post(reload)).with_state(reloader);
        let routes = statuses.merge(reloads).merge(holds).merge(handovers);
        axum::serve(UnixListener::from_std(self.listener)?, routes).await
    }
}

/// 422: the file is wrong, and the body is the report for a person.
async fn reload(State(reloader): State<Reloader>) -> Result<Json<Reloaded>, (StatusCode, String)> {
    // A client that leaves does not stop what it began.
    let reloaded = tokio::spawn(async move { reloader.reload().await }).await;
    let stopping = (StatusCode::SERVICE_UNAVAILABLE, Refusal::Stopping.to_string());
    reloaded.map_err(|_| stopping)?.map(Json).map_err(|refusal| {
        let code = match refusal {
            Refusal::Invalid(_) | Refusal::OtherVoters => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
        };
        (code, refusal.to_string())
    })
}

async fn drain(State(to_loop): State<mpsc::Sender<Message>>, Json(request): Json<HoldRequest>) -> Held {
    let time = request.time_ms.map(Duration::from_millis);
    change_hold(to_loop, request.vip, HoldChange::Drain { time }).await
}

async fn undrain(State(to_loop): State<mpsc::Sender<Message>>, Json(request): Json<HoldRequest>) -> Held {
    change_hold(to_loop, request.vip, HoldChange::Undrain).await
}

type Held = Result<Json<Changed>, (StatusCode, String)>;

async fn change_hold(to_loop: mpsc::Sender<Message>, vip: Option<String>, change: HoldChange) -> Held {
    let (answer, answered) = oneshot::channel();
    let name = vip.clone().unwrap_or_default();
    let asked = async {
        to_loop.send(Message::Hold { vip, change, answer }).await.ok()?;
        answered.await.ok()
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Some(Some(changed))) => Ok(Json(changed)),
        Ok(Some(None)) => Err((StatusCode::NOT_FOUND, format!("there is no vip {name:?}; `vipd status` lists them"))),
        Ok(None) => Err((StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping".to_owned())),
        Err(_) => {
            let text = format!("the disk did not take it within {PATIENCE:?}: it holds, but may not survive a restart");
            Err((StatusCode::GATEWAY_TIMEOUT, text))
        }
    }
}

/// What came of it is an answer, whether it was done or not.
async fn hand_over(
    State(to_loop): State<mpsc::Sender<Message>>,
    Json(request): Json<HandoverRequest>,
) -> Result<Json<HandoverOutcome>, (StatusCode, String)> {
    let (answer, answered) = oneshot::channel();
    let name = request.vip.clone();
    let asked = async {
        to_loop.send(Message::HandOver { request: Box::new(request), answer }).await.ok()?;
        answered.await.ok()
    };
    match tokio::time::timeout(HANDOVER_PATIENCE, asked).await {
        Ok(Some(Some(outcome))) => Ok(Json(outcome)),
        Ok(Some(None)) => {
            let text = format!("there is no vip and no group {name:?}; `vipd status` lists them");
            Err((StatusCode::NOT_FOUND, text))
        }
        Ok(None) => Err((StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping".to_owned())),
        Err(_) => Err((StatusCode::GATEWAY_TIMEOUT, format!("it has not ended within {HANDOVER_PATIENCE:?}"))),
    }
}

async fn status(
    State((to_loop, alerts)): State<(mpsc::Sender<Message>, Accounts)>,
) -> Result<Json<Status>, (StatusCode, String)> {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        to_loop.send(Message::Status(answer)).await.ok()?;
        answered.await.ok()
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Some(status)) => Ok(Json(Status { alerts: alerts.statuses(), ..status })),
        Ok(None) => Err((StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping".to_owned())),
        Err(_) => Err((StatusCode::GATEWAY_TIMEOUT, format!("the loop did not answer within {PATIENCE:?}"))),
    }
}

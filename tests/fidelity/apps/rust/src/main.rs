//! A service that turns GET /r/TOKEN?k=K&par=0|1 into K calls GET http://BACKEND/b/TOKEN/I: axum, reqwest and tokio.
//! --style direct: the handler's task calls; parallel calls are tasks of their own. spawn: every call is a task of its own.

use axum::{extract::{Path, Query, State}, http::StatusCode, routing::get, Router};
use serde::Deserialize;
use std::{collections::HashMap, env, sync::Arc};

struct Service {
    backend: String,
    spawn: bool,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Wish {
    k: Option<usize>,
    par: Option<u8>,
}

async fn call(service: Arc<Service>, path: String) -> Result<(), String> {
    let url = format!("http://{}{}", service.backend, path);
    let response = service.client.get(url).send().await.map_err(|e| e.to_string())?;
    let status = response.status();
    response.bytes().await.map_err(|e| e.to_string())?;
    if status.is_success() { Ok(()) } else { Err(format!("backend: {status}")) }
}

async fn handle(State(service): State<Arc<Service>>, Path(token): Path<String>, Query(wish): Query<Wish>)
    -> Result<&'static str, (StatusCode, String)> {
    let parallel = wish.par == Some(1);
    let refused = |e: String| (StatusCode::BAD_GATEWAY, e);
    let mut pending = Vec::new();
    for i in 0..wish.k.unwrap_or(1).min(64) {
        let one = call(service.clone(), format!("/b/{token}/{i}"));
        if parallel {
            pending.push(tokio::spawn(one));
        } else if service.spawn {
            tokio::spawn(one).await.map_err(|e| refused(e.to_string()))?.map_err(refused)?;
        } else {
            one.await.map_err(refused)?;
        }
    }
    for one in pending {
        one.await.map_err(|e| refused(e.to_string()))?.map_err(refused)?;
    }
    Ok("ok\n")
}

#[tokio::main(worker_threads = 4)]
async fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let options: HashMap<&str, &str> =
        words.chunks_exact(2).map(|pair| (pair[0].trim_start_matches("--"), pair[1].as_str())).collect();
    let service = Arc::new(Service {
        backend: options["backend"].to_string(),
        spawn: options.get("style") == Some(&"spawn"),
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", options["port"].parse::<u16>().unwrap())).await.unwrap();
    let router = Router::new().route("/r/*token", get(handle)).route("/b/*token", get(handle)).with_state(service);
    axum::serve(listener, router).await.unwrap();
}

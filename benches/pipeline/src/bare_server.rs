//! The limit of serving: a bare actix-web handler that returns the same bytes.

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context;

/// The beginning of the line with the server's address, for the parent process.
pub(crate) const LISTENING: &str = "listening on ";

/// Serves the file's bytes at every path until the process ends.
pub(crate) async fn run(body_file: &str) -> anyhow::Result<()> {
    let body = web::Bytes::from(std::fs::read(body_file).context("reading the body")?);
    let server = HttpServer::new(move || {
        let body = body.clone();
        App::new().default_service(web::to(move || {
            let body = body.clone();
            async move { HttpResponse::Ok().content_type("application/json").body(body) }
        }))
    })
    .bind(("127.0.0.1", 0))?;
    println!("{LISTENING}{}", server.addrs().first().context("an address")?);
    Ok(server.run().await?)
}

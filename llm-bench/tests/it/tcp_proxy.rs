use reqwest::Url;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::process::free_address;

/// A TCP proxy in front of a server. While it is closed it refuses connections, so that clients find the server away.
pub(crate) struct TcpProxy {
    address: String,
    server: String,
    open: Option<JoinHandle<()>>,
}

impl TcpProxy {
    /// Starts a proxy in front of the server of this URL; returns the URL of the proxy.
    pub(crate) async fn before(url: &str, default_port: u16) -> (Self, String) {
        let mut url = Url::parse(url).unwrap();
        let address = free_address();
        let (host, port) = address.split_once(':').unwrap();
        let server = format!(
            "{}:{}",
            url.host_str().unwrap(),
            url.port().unwrap_or(default_port)
        );
        url.set_host(Some(host)).unwrap();
        url.set_port(Some(port.parse().unwrap())).unwrap();
        let mut proxy = Self {
            address,
            server,
            open: None,
        };
        proxy.open().await;
        (proxy, url.into())
    }

    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        let server = self.server.clone();
        self.open = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let server = server.clone();
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        // The end of what one side sends is passed on, and the other side may still send. An error of either side closes
                        // both connections.
                        let _ended = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        }));
    }

    /// Ends all connections and refuses new ones.
    pub(crate) async fn close(&mut self) {
        let open = self.open.take().unwrap();
        open.abort();
        assert!(open.await.unwrap_err().is_cancelled());
    }
}

//! An upstream that misbehaves, on plain TCP or TLS, until it is made to behave.

use std::{
    io::Result,
    sync::{Arc, Mutex},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

const GOOD_BODY: &str = r#"{"code":0,"msg":"success","data":{"totalCapacity":3,"totalUsed":2,"totalAllocation":1}}"#;

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers well.
    Good,
    /// Reads the request and says nothing.
    Hang,
    /// Announces a body and sends a byte of it now and then.
    SlowBody,
    /// Sends half of the announced body and closes.
    Truncated,
    /// Announces a body of 1 GiB.
    HugeBody,
    /// Sends a body without an end and without announcing its length.
    EndlessBody,
    /// Sends a chunk whose length is no number.
    BadChunk,
    /// Sends an extension of a chunk without an end.
    EndlessChunkExtension,
    /// Sends bytes that are no HTTP.
    Garbage,
    /// Closes without a word.
    Close,
    /// Repeats the `Authorization` header in a gateway's error, in several forms.
    EchoCredential,
    /// Answers this status, with `Location` elsewhere, and this body.
    Answer(u16, &'static str),
}

/// The server's side of one port.
#[derive(Clone)]
pub struct Hostile {
    behaviour: Arc<Mutex<Behaviour>>,
    /// `host:port`
    pub address: String,
}

impl Hostile {
    /// Serves on a free port.
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, behaviour, |_| None)
    }

    /// Serves TLS with `good` while it behaves, and with `bad` before.
    pub async fn start_tls(bad: TlsAcceptor, good: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let acceptor = move |behaviour| Some(if behaviour == Behaviour::Good { good.clone() } else { bad.clone() });
        Self::serve(listener, Behaviour::Hang, acceptor)
    }

    pub fn behave(&self) {
        *self.behaviour.lock().unwrap() = Behaviour::Good;
    }

    pub fn serve(
        listener: TcpListener,
        behaviour: Behaviour,
        acceptor: impl Fn(Behaviour) -> Option<TlsAcceptor> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let server = Self { behaviour: Arc::new(Mutex::new(behaviour)), address };
        let shared = Arc::clone(&server.behaviour);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let behaviour = *shared.lock().unwrap();
                match acceptor(behaviour) {
                    None => {
                        tokio::spawn(answer(stream, behaviour));
                    }
                    Some(acceptor) => {
                        tokio::spawn(async move { answer(acceptor.accept(stream).await?, behaviour).await });
                    }
                }
            }
        });
        server
    }
}

/// A port that refuses connections until it listens.
pub struct Refusing(Socket);

impl Refusing {
    pub fn bind() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> String {
        self.0.local_addr().unwrap().as_socket().unwrap().to_string()
    }

    pub fn listen(self) {
        self.0.listen(16).unwrap();
        self.0.set_nonblocking(true).unwrap();
        Hostile::serve(TcpListener::from_std(self.0.into()).unwrap(), Behaviour::Good, |_| None);
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, behaviour: Behaviour) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    match behaviour {
        Behaviour::Good => send(&mut stream, 200, GOOD_BODY, GOOD_BODY.len()).await,
        Behaviour::Hang => std::future::pending().await,
        Behaviour::SlowBody => {
            send(&mut stream, 200, "", 1000).await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Behaviour::Truncated => send(&mut stream, 200, &GOOD_BODY[..20], GOOD_BODY.len()).await,
        Behaviour::HugeBody => {
            send(&mut stream, 200, "", 1 << 30).await?;
            spew(&mut stream, &[b' '; 4096]).await
        }
        Behaviour::EndlessBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            spew(&mut stream, b"4\r\n    \r\n").await
        }
        Behaviour::BadChunk => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n").await?;
            std::future::pending().await
        }
        Behaviour::EndlessChunkExtension => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;").await?;
            spew(&mut stream, b"x=y;").await
        }
        Behaviour::Garbage => stream.write_all(b"\x00\x01garbage\r\n\r\n").await,
        Behaviour::Close => Ok(()),
        Behaviour::EchoCredential => {
            let shown = head.lines().find(|line| line.to_lowercase().starts_with("authorization")).unwrap();
            let hex: String = shown
                .bytes()
                .flat_map(|byte| [byte >> 4, byte & 15])
                .filter_map(|digit| char::from_digit(digit.into(), 16))
                .collect();
            let forms = format!("{shown} {} {hex} {}", shown.to_uppercase(), &shown[..shown.len() - 1]);
            let body = format!(r#"{{"error_code":"APIGW.0301","error_msg":"bad {forms}","request_id":"{hex}"}}"#);
            send(&mut stream, 401, &body, body.len()).await
        }
        Behaviour::Answer(status, body) => send(&mut stream, status, body, body.len()).await,
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), status: u16, body: &str, length: usize) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nLocation: http://127.0.0.1:1/\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

async fn spew(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    loop {
        stream.write_all(bytes).await?;
    }
}

/// A certificate authority of the tests' own.
pub struct Authority(Issuer<'static, KeyPair>, pub String);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A certificate for `name` and its key, in PEM.
    pub fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// A certificate that expires after this time, and its key, in PEM.
    pub fn issue_for(&self, name: &str, validity: Duration) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = (std::time::SystemTime::now() + validity).into();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// A server's side of TLS, with a certificate for `name`.
    pub fn acceptor(&self, name: &str, protocols: &[&[u8]]) -> TlsAcceptor {
        Self::acceptor_with(self.issue(name), protocols)
    }

    /// The same by HTTP/1, with a certificate that expires after this time.
    pub fn acceptor_for(&self, name: &str, validity: Duration) -> TlsAcceptor {
        Self::acceptor_with(self.issue_for(name, validity), &[b"http/1.1"])
    }

    fn acceptor_with((certificate, key): (String, String), protocols: &[&[u8]]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

//! A small web server for images: honest, or hostile in one chosen way. It counts what is asked of it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How the server answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The file, whole.
    File(PathBuf),
    /// It takes what is sent, into a file.
    Take(PathBuf),
    /// 404.
    Absent,
    /// Some bytes, then silence for ever.
    Stall,
    /// A body shorter than announced, and the end.
    Short,
    /// More bytes than announced.
    Long,
}

/// The server; it ends with the test.
pub struct Web {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Web {
    /// A server on a free port of the loopback.
    pub async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port has an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answer.clone()));
            }
        });
        Self { address, asked }
    }

    /// Address of the one image it has.
    pub fn url(&self) -> String {
        format!("http://{}/image", self.address)
    }

    /// How many connections were made.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let body = loop {
        let end = request.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => request.extend_from_slice(&buffer[..n]),
        }
    };
    match answer {
        Answer::Take(path) => {
            let head = String::from_utf8_lossy(&request[..body]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: u64 = length
                .and_then(|length| length.trim().parse().ok())
                .unwrap_or(0);
            let mut file = tokio::fs::File::create(path).await?;
            file.write_all(&request[body..]).await?;
            let left = length - (request.len() - body) as u64;
            tokio::io::copy(&mut (&mut stream).take(left), &mut file).await?;
            file.sync_all().await?;
            let taken = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(taken).await?;
        }
        Answer::File(path) => {
            let mut file = tokio::fs::File::open(path).await?;
            head(&mut stream, file.metadata().await?.len()).await?;
            tokio::io::copy(&mut file, &mut stream).await?;
        }
        Answer::Absent => {
            let nothing =
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(nothing).await?;
        }
        Answer::Stall => {
            head(&mut stream, 1 << 20).await?;
            stream.write_all(&[0; 1024]).await?;
            std::future::pending::<()>().await;
        }
        Answer::Short => {
            head(&mut stream, 1 << 20).await?;
            stream.write_all(&[0; 1024]).await?;
        }
        Answer::Long => {
            head(&mut stream, 1024).await?;
            stream.write_all(&[0; 4096]).await?;
        }
    }
    stream.shutdown().await
}

async fn head(stream: &mut TcpStream, length: u64) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await
}

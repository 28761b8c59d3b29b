//! The screen, through `computectl vnc`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use computedriver::v1;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{LIMIT, Sandbox, binaries, command, request};

suite!(viewers_see_the_screen_one_after_another);

/// A `computectl vnc` that ends with the test.
struct Door {
    program: Child,
    address: String,
}

impl Door {
    fn open(sandbox: &Sandbox, id: &str) -> Self {
        let mut program = command(binaries().join("computectl"))
            .args(["vnc", id, "--endpoint"])
            .arg(format!("unix:{}", sandbox.socket().display()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("computectl starts");
        let mut address = String::new();
        let told = program.stdout.take().expect("a pipe");
        BufReader::new(told)
            .read_line(&mut address)
            .expect("a line");
        let address = address.trim().to_owned();
        Self { program, address }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.program.kill().expect("our own child");
        self.program.wait().expect("our own child");
    }
}

/// As much of a viewer as sees one picture: RFB 3.8 without a password, raw pixels of four bytes.
async fn picture(address: &str) -> (u16, u16, Vec<u8>) {
    let mut screen = TcpStream::connect(address).await.expect("somebody listens");
    let mut version = [0; 12];
    screen.read_exact(&mut version).await.unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    screen.write_all(&version).await.unwrap();
    let mut kinds = vec![0; screen.read_u8().await.unwrap().into()];
    screen.read_exact(&mut kinds).await.unwrap();
    assert!(kinds.contains(&1), "without a password: {kinds:?}");
    screen.write_u8(1).await.unwrap();
    assert_eq!(screen.read_u32().await.unwrap(), 0, "it lets us in");
    let shared = 1;
    screen.write_u8(shared).await.unwrap();
    let (width, height) = (
        screen.read_u16().await.unwrap(),
        screen.read_u16().await.unwrap(),
    );
    let mut format = [0; 16];
    screen.read_exact(&mut format).await.unwrap();
    assert_eq!(format[0], 32, "bits of a pixel");
    let mut name = vec![0; screen.read_u32().await.unwrap().try_into().unwrap()];
    screen.read_exact(&mut name).await.unwrap();
    // Raw is the only encoding asked for; then everything, now.
    screen.write_all(&[2, 0, 0, 1, 0, 0, 0, 0]).await.unwrap();
    screen.write_all(&[3, 0, 0, 0, 0, 0]).await.unwrap();
    screen.write_u16(width).await.unwrap();
    screen.write_u16(height).await.unwrap();
    assert_eq!(screen.read_u16().await.unwrap(), 0, "an update");
    let mut pixels = vec![0; usize::from(width) * usize::from(height) * 4];
    for _ in 0..screen.read_u16().await.unwrap() {
        let mut place = [0; 4];
        for part in &mut place {
            *part = usize::from(screen.read_u16().await.unwrap());
        }
        assert_eq!(screen.read_i32().await.unwrap(), 0, "raw");
        let [x, y, wide, high] = place;
        for row in y..y + high {
            let from = (row * usize::from(width) + x) * 4;
            screen
                .read_exact(&mut pixels[from..from + wide * 4])
                .await
                .unwrap();
        }
    }
    (width, height, pixels)
}

async fn viewers_see_the_screen_one_after_another(sandbox: &mut Sandbox) {
    let (guest, _) = sandbox.spawn(request()).await.unwrap();
    let id = guest.instance_id;
    let door = Door::open(sandbox, &id);
    for _ in 0..2 {
        let seen = timeout(LIMIT, picture(&door.address)).await;
        let (width, height, pixels) = seen.expect("a picture");
        assert!(width >= 320 && height >= 200, "{width} x {height}");
        let first = &pixels[..4];
        assert!(
            pixels.chunks(4).any(|pixel| pixel != first),
            "it is not blank"
        );
    }
    // A viewer that others made.
    let file = sandbox.path().join("screen.png");
    let (host, port) = door.address.rsplit_once(':').expect("a port");
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/venv/bin/python3");
    let mut viewer = command(tools);
    viewer.args(["-m", "vncdotool.command", "-s", &format!("{host}::{port}")]);
    viewer.args(["--timeout", "120", "capture"]).arg(&file);
    let done = tokio::task::spawn_blocking(move || viewer.output())
        .await
        .unwrap();
    let done = done.expect("`tools/setup tests` installs vncdotool");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let png = std::fs::read(file).expect("a picture");
    assert!(
        png.starts_with(b"\x89PNG") && png.len() > 500,
        "{}",
        png.len()
    );
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn whoever_names_no_guest_is_told_before_a_viewer_is_started() {
    let sandbox = Sandbox::start(&["--set", "guests.vnc=false"]).await;
    let (guest, _) = sandbox.spawn(request()).await.unwrap();
    for (id, why) in [
        (guest.instance_id.clone(), "CONSOLE_NOT_FOUND"),
        (uuid::Uuid::new_v4().to_string(), "INSTANCE_NOT_FOUND"),
    ] {
        let mut vnc = command(binaries().join("computectl"));
        vnc.args(["vnc", &id, "--endpoint"]);
        vnc.arg(format!("unix:{}", sandbox.socket().display()));
        let told = tokio::task::spawn_blocking(move || vnc.output())
            .await
            .unwrap();
        let told = told.expect("computectl starts");
        let words = String::from_utf8_lossy(&told.stderr).into_owned();
        assert_eq!(told.status.code(), Some(3), "{words}");
        assert!(words.contains(why), "{words}");
    }
    let asked = v1::GetConsolePoolInfoRequest {
        kind: v1::ConsoleKind::Vnc.into(),
    };
    let pool = sandbox.console().await.get_console_pool_info(asked).await;
    assert_eq!(
        crate::support::reason(&pool.unwrap_err()),
        "CONSOLE_NOT_FOUND"
    );
    sandbox.destroy(&guest.instance_id).await.unwrap();
}

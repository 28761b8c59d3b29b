use std::time::Duration;

use computedriver_client::{Error, v1};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use pretty_assertions::assert_eq;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::super::feed::Facts;
use super::super::keys::Flow;
use super::{Board, Look, draw};

const WEB: &str = "11111111-1111-4111-8111-111111111111";
const DB: &str = "22222222-2222-4222-8222-222222222222";
const HUNG: &str = "33333333-3333-4333-8333-333333333333";
const OFF: &str = "44444444-4444-4444-8444-444444444444";

/// A guest whose counters have come to `total` times these.
fn guest(id: &str, total: i64, cpu_ms: i64, bytes: i64) -> v1::InstanceStats {
    v1::InstanceStats {
        sample: Some(v1::SampleState {
            instance_id: id.into(),
            status: v1::SampleStatus::Ok.into(),
            ..Default::default()
        }),
        cpu_time_ns: Some(total * cpu_ms * 1_000_000),
        memory: Some(v1::MemoryDiagnostics {
            maximum_kib: 1 << 20,
            rss_kib: Some(256 << 10),
            ..Default::default()
        }),
        disks: vec![v1::BlockCounters {
            disk_id: "root".into(),
            rd_bytes: Some(total * bytes),
            wr_bytes: Some(total * bytes * 2),
            ..Default::default()
        }],
        interfaces: vec![v1::InterfaceCounters {
            interface_id: "net".into(),
            rx_bytes: Some(total * bytes * 3),
            tx_bytes: Some(total * bytes / 2),
            ..Default::default()
        }],
        power_state: v1::PowerState::Running.into(),
        ..Default::default()
    }
}

fn time(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

fn batch(sequence: i64, instances: Vec<v1::InstanceStats>) -> v1::StreamInstanceStatsResponse {
    v1::StreamInstanceStatsResponse {
        sequence: u64::try_from(sequence).expect("small"),
        collect_time: time(1000 + sequence),
        full: sequence == 1,
        instances,
        ..Default::default()
    }
}

/// A guest whose processor works ever harder, a quiet one, one that hangs since the fourth sample, and one that is off.
fn board() -> Board {
    let mut board = Board::new("unix:/run/computelet.sock", Duration::from_secs(2));
    let names = [
        (WEB, "web-1"),
        (DB, "Database"),
        (HUNG, "hung"),
        (OFF, "off"),
    ];
    board.facts(Facts {
        names: names.map(|(id, name)| (id.into(), name.into())).into(),
        resource: Some(v1::AvailableResource {
            hypervisor_hostname: "host-7".into(),
            vcpus: amount(8),
            memory_mib: amount(16384),
            ..Default::default()
        }),
        server: "computelet 0.1.0".into(),
    });
    for n in 1..=6 {
        let mut hung = guest(HUNG, n, 500, 1 << 20);
        if n > 3 {
            (hung.cpu_time_ns, hung.disks, hung.interfaces) = (None, vec![], vec![]);
            let sample = hung.sample.as_mut().expect("set above");
            sample.status = v1::SampleStatus::Stale.into();
            sample.stale_since = time(1003);
        }
        let off = v1::InstanceStats {
            power_state: v1::PowerState::Shutdown.into(),
            sample: guest(OFF, 0, 0, 0).sample,
            ..Default::default()
        };
        let web = guest(WEB, n * n, 70, 300_000);
        board.batch(batch(n, vec![web, guest(DB, n, 12, 0), hung, off]));
    }
    board
}

fn amount(total: u64) -> Option<v1::ResourceAmount> {
    Some(v1::ResourceAmount {
        total,
        ..Default::default()
    })
}

fn drawn(board: &mut Board, (width, height): (u16, u16), look: Look) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
    let shown = terminal.draw(|frame| draw(frame, board, look));
    shown.expect("in memory").buffer.clone()
}

fn lines(board: &mut Board, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(board, (width, height), Look::Plain);
    let cells = buffer.content.chunks(usize::from(width));
    let lines = cells.map(|line| {
        line.iter()
            .map(ratatui::buffer::Cell::symbol)
            .collect::<String>()
    });
    lines.map(|line| line.trim_end().to_owned()).collect()
}

fn press(board: &mut Board, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            key => KeyCode::Char(key),
        };
        assert_eq!(board.key(code.into()), Flow::GoOn, "{key:?}");
    }
}

/// The names of the rows, top down.
fn order(board: &Board) -> Vec<String> {
    board.rows().into_iter().map(|row| row.name).collect()
}

/// Compares with a file; `UPDATE_GOLDEN=1` writes it.
fn golden(name: &str, lines: &[String]) {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/bin/computectl/top/draw/golden"
    );
    let path = format!("{folder}/{name}.txt");
    let text = lines.join("\n") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the folder is there");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{path}");
}

#[test]
fn the_table_shows_what_the_guests_use() {
    golden("wide", &lines(&mut board(), 130, 9));
}

#[test]
fn a_narrow_terminal_loses_trends_then_names_then_numbers_and_never_the_ids() {
    for width in [80, 64, 56, 30, 8] {
        golden(&format!("narrow-{width}"), &lines(&mut board(), width, 8));
    }
}

#[test]
fn any_size_can_be_drawn() {
    let mut board = board();
    for width in [1, 2, 7, 8, 20, 61, 62, 300] {
        for height in [1, 2, 3, 4, 50] {
            press(&mut board, "jj");
            drawn(&mut board, (width, height), Look::Colour);
        }
    }
}

#[test]
fn each_column_sorts_and_the_unknown_are_last_either_way() {
    let mut board = board();
    assert_eq!(order(&board), ["web-1", "Database", "hung", "off"]);
    press(&mut board, "c");
    assert_eq!(order(&board), ["Database", "web-1", "hung", "off"]);
    for (key, sorted) in [
        ("i", ["web-1", "Database", "hung", "off"]),
        ("n", ["Database", "hung", "off", "web-1"]),
        ("s", ["web-1", "Database", "off", "hung"]),
        ("m", ["web-1", "Database", "hung", "off"]),
        ("r", ["web-1", "Database", "hung", "off"]),
        ("w", ["web-1", "Database", "hung", "off"]),
        ("x", ["web-1", "Database", "hung", "off"]),
        ("t", ["web-1", "Database", "hung", "off"]),
        ("tt", ["web-1", "Database", "hung", "off"]),
        ("v", ["Database", "web-1", "hung", "off"]),
    ] {
        press(&mut board, key);
        assert_eq!(order(&board), sorted, "{key}");
    }
}

#[test]
fn a_filter_selects_by_the_begin_of_an_id_or_a_part_of_a_name() {
    let mut board = board();
    press(&mut board, "/2222\n");
    assert_eq!(order(&board), ["Database"]);
    press(&mut board, "\u{1b}/BASE");
    assert_eq!(order(&board), ["Database"]);
    let foot = lines(&mut board, 80, 9).pop();
    assert_eq!(foot.as_deref(), Some("id or name: BASE▏"));
    press(&mut board, "q\n");
    assert_eq!(order(&board), [""; 0], "a q that is typed does not quit");
    press(&mut board, "\u{1b}");
    assert_eq!(order(&board).len(), 4);
    assert_eq!(board.key(KeyCode::Esc.into()), Flow::Quit);
}

#[test]
fn a_pause_holds_what_is_shown_and_samples_go_on() {
    let mut board = board();
    press(&mut board, "p");
    let held = lines(&mut board, 120, 9);
    assert!(held[0].ends_with(" paused"), "{held:?}");
    board.batch(batch(7, vec![guest(WEB, 1000, 70, 300_000)]));
    assert_eq!(lines(&mut board, 120, 9), held);
    press(&mut board, "p");
    assert_ne!(lines(&mut board, 120, 9), held);
}

#[test]
fn a_lost_server_is_told_with_what_was_known_and_goes_when_it_is_back() {
    let mut board = board();
    let lost = Error::from(tonic::Status::unavailable("connection reset"));
    board.lost(&lost);
    board.second();
    board.lost(&lost);
    board.second();
    let shown = lines(&mut board, 80, 9);
    assert!(shown[0].ends_with("reconnecting for 2s"), "{shown:?}");
    assert_eq!(shown[8], "connection reset");
    assert!(shown[3].starts_with("11111111 web-1"), "{shown:?}");
    board.batch(batch(1, vec![guest(DB, 1, 1, 1)]));
    let shown = lines(&mut board, 80, 9);
    assert!(shown[0].ends_with("live, every 2 s"), "{shown:?}");
    assert_eq!(order(&board), ["Database"]);
}

#[test]
fn a_long_list_is_scrolled_and_no_further_than_its_end() {
    let mut board = board();
    board.key(KeyCode::End.into());
    assert_eq!(
        lines(&mut board, 80, 6)[3..5],
        lines(&mut board, 80, 6)[3..5]
    );
    let shown = lines(&mut board, 80, 6);
    assert!(shown[4].starts_with("44444444"), "{shown:?}");
    board.key(KeyCode::PageUp.into());
    let shown = lines(&mut board, 80, 6);
    assert!(shown[3].starts_with("11111111"), "{shown:?}");
}

#[test]
fn who_does_not_answer_is_dim_and_without_colour_nothing_has_any() {
    let mut board = board();
    let colour = drawn(&mut board, (120, 9), Look::Colour);
    let row = |y: u16| (0..120).map(move |x| (x, y));
    let dim = |y| row(y).all(|at| colour[at].modifier.contains(Modifier::DIM));
    assert_eq!([3, 4, 5, 6].map(dim), [false, false, true, true]);
    let plain = drawn(&mut board, (120, 9), Look::Plain);
    let painted = |buffer: &Buffer| buffer.content.iter().any(|cell| cell.fg != Color::Reset);
    assert!(painted(&colour) && !painted(&plain));
}

#[test]
fn control_c_quits_also_while_a_filter_is_typed() {
    let mut board = board();
    press(&mut board, "/we");
    let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(board.key(key), Flow::Quit);
}

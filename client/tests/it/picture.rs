//! A picture of `computectl top` as a terminal shows it; `tools/picture` runs this against a real server.

#![allow(
    clippy::disallowed_methods,
    reason = "the program that is drawn is a process"
)]

use std::fmt::Write as _;
use std::process::Command;

use vt100::{Cell, Color};

use crate::support::screen::Screen;
use crate::support::{Server, make};

const SIZE: (u16, u16) = (118, 14);
/// Pixels of one cell, and where the letters stand in it.
const CELL: (u16, u16) = (8, 18);
const BASE: u16 = 13;
const MARGIN: u16 = 12;
const PAPER: &str = "#16181d";
const INK: &str = "#d7dae0";
/// The eight colours of a terminal.
const COLOURS: [&str; 8] = [
    "#5c6370", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d7dae0",
];
/// Trends in one row when the picture is taken: as many as one column of them is wide, times its columns.
const BARS: usize = 6 * 7;

/// What `tools/picture` wants: the picture of a real server, when a guest of it hangs.
fn of_server(endpoint: &str) {
    let file = std::env::var("PICTURE").expect("PICTURE says where it goes");
    let picture = picture(endpoint, |lines| {
        bars(lines) >= BARS && lines.iter().any(|line| line.contains("stale"))
    });
    std::fs::write(file, picture).expect("it can be written");
}

#[test]
fn a_picture_has_the_words_and_the_bars_of_the_screen() {
    if let Ok(endpoint) = std::env::var("PICTURE_OF") {
        return of_server(&endpoint);
    }
    let server = Server::start();
    let batch = |n: u64| {
        let value = i64::try_from(n * n).expect("small");
        make::batch(n, vec![make::stats("<guest>", value)])
    };
    server.host.samples.play((1..=9).map(batch).collect());
    let drawn = picture(server.endpoint(), |lines| bars(lines) >= BARS);
    assert!(
        drawn.contains("&lt;guest&gt;") || drawn.contains("&lt;guest>"),
        "{drawn}"
    );
    assert!(drawn.contains("RUNNING") && !drawn.contains('█'), "{drawn}");
    let rectangles = drawn.matches("<rect").count();
    assert!(rectangles > BARS, "{rectangles}");
}

/// In the first row.
fn bars(lines: &[String]) -> usize {
    let is_bar = |c: &char| ('▁'..='█').contains(c);
    lines[3].chars().filter(is_bar).count()
}

/// What a terminal shows of `computectl top` once it is as wanted.
fn picture(endpoint: &str, wanted: impl Fn(&[String]) -> bool) -> String {
    let mut top = Command::new(env!("CARGO_BIN_EXE_computectl"));
    top.args(["top", "--endpoint", endpoint]);
    let mut screen = Screen::start(&top, SIZE);
    screen.wait("the picture", wanted);
    let picture = screen.look(svg);
    screen.press("q");
    assert_eq!(screen.end(), 0);
    picture
}

fn svg(screen: &vt100::Screen) -> String {
    let (width, height) = (SIZE.0 * CELL.0 + 2 * MARGIN, SIZE.1 * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"13\">\n\
         <title>computectl top</title>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{PAPER}\"/>\n"
    );
    for row in 0..SIZE.1 {
        let mut run = Run::default();
        for column in 0..SIZE.0 {
            let Some(cell) = screen.cell(row, column) else {
                continue;
            };
            if run.style != style(cell) {
                std::mem::take(&mut run).draw(&mut svg, row);
                (run.style, run.column) = (style(cell), column);
            }
            let text = cell.contents();
            run.text.push_str(if text.is_empty() { " " } else { text });
        }
        run.draw(&mut svg, row);
    }
    svg + "</svg>\n"
}

/// Cells side by side that look alike.
#[derive(Default)]
struct Run {
    style: (String, String),
    column: u16,
    text: String,
}

/// Attributes of the letters, and the colour behind them.
fn style(cell: &Cell) -> (String, String) {
    let colour = |colour, default: &str| match colour {
        Color::Default => default.to_owned(),
        Color::Idx(index) => COLOURS[usize::from(index) % 8].to_owned(),
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
    };
    let (mut ink, mut paper) = (colour(cell.fgcolor(), INK), colour(cell.bgcolor(), ""));
    if cell.inverse() {
        (ink, paper) = (PAPER.to_owned(), ink);
    }
    let mut letters = format!("fill=\"{ink}\"");
    for (so, attribute) in [
        (cell.bold(), " font-weight=\"bold\""),
        (cell.dim(), " opacity=\"0.5\""),
        (cell.underline(), " text-decoration=\"underline\""),
    ] {
        letters.push_str(if so { attribute } else { "" });
    }
    (letters, paper)
}

impl Run {
    /// Bars are drawn as such, so that no font leaves gaps; all else is text of just the width of its cells.
    fn draw(self, svg: &mut String, row: u16) {
        let (letters, paper) = &self.style;
        let (left, top) = (MARGIN + self.column * CELL.0, MARGIN + row * CELL.1);
        let cells = u16::try_from(self.text.chars().count()).expect("a line of a terminal");
        let (width, high) = (cells * CELL.0, CELL.1);
        let mut put = |line: String| writeln!(svg, "{line}").expect("memory takes text");
        if !paper.is_empty() {
            put(format!(
                "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{high}\" fill=\"{paper}\"/>"
            ));
        }
        for (nth, bar) in self.text.chars().enumerate() {
            if let Some(eighths) = eighths(bar) {
                let x = left + CELL.0 * u16::try_from(nth).expect("a cell of a line");
                let height = eighths * 14 / 8;
                let y = top + BASE + 2 - height;
                put(format!(
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{height}\" {letters}/>",
                    CELL.0 - 1
                ));
            }
        }
        let text: String = self
            .text
            .chars()
            .map(|c| if eighths(c).is_some() { ' ' } else { c })
            .collect();
        if !text.trim().is_empty() {
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let y = top + BASE;
            put(format!(
                "<text x=\"{left}\" y=\"{y}\" textLength=\"{width}\" xml:space=\"preserve\" {letters}>{text}</text>"
            ));
        }
    }
}

fn eighths(bar: char) -> Option<u16> {
    let is_bar = ('▁'..='█').contains(&bar);
    is_bar
        .then(|| u16::try_from(u32::from(bar) - u32::from('▁') + 1).ok())
        .flatten()
}

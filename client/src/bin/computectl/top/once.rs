//! One table as plain text, or an object a guest.

use std::time::Duration;

use computedriver_client::{Client, SampleNews};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::exit::Failure;
use crate::out::Out;

use super::board::{Board, Column};
use super::row::Row;
use super::{cells, feed};

/// A rate needs two samples.
const SAMPLES: usize = 2;
/// What a server may take longer than the interval.
const GRACE: Duration = Duration::from_secs(10);

pub(super) async fn run(client: &Client, board: &mut Board, out: &mut Out) -> Result<(), Failure> {
    let mut samples = client.samples(feed::request(board.interval));
    let until = Instant::now() + board.interval * 2 + GRACE;
    let mut taken = 0;
    while taken < SAMPLES {
        match timeout_at(until, samples.next()).await {
            Ok(news) => match news? {
                SampleNews::Batch(batch) => {
                    board.batch(batch);
                    taken += 1;
                }
                SampleNews::Lost(error) => {
                    board.lost(&error);
                    taken = 0;
                }
                _ => {}
            },
            // A slow server: what is there is shown, unless nothing is.
            Err(_) if taken > 0 => break,
            Err(_) => {
                return Err(Failure::Left {
                    why: crate::exit::Left::TimeUp,
                    message: "no sample came in time".into(),
                });
            }
        }
    }
    let mut facts = feed::Facts::default();
    feed::gather(client, &mut facts).await;
    board.facts(facts);
    print(board, out)
}

fn print(board: &Board, out: &mut Out) -> Result<(), Failure> {
    let rows = board.rows();
    if out.is_json() {
        for row in &rows {
            let [cpu, memory, read, write, receive, send] = row.values;
            out.object(&json!({ "usage": {
                "instance_id": row.id,
                "name": row.name,
                "state": row.state.to_string(),
                "cpu_percent": cpu,
                "memory_bytes": memory,
                "read_bytes_per_second": read,
                "write_bytes_per_second": write,
                "rx_bytes_per_second": receive,
                "tx_bytes_per_second": send,
            }}))?;
        }
        return Ok(());
    }
    let line = |row: &Row| {
        let mut cells = vec![row.id.clone(), row.name.clone(), row.state.to_string()];
        let [cpu, amounts @ ..] = row.values;
        cells.push(cells::percent(cpu));
        cells.extend(amounts.map(cells::amount));
        cells
    };
    let headers = Column::ALL.map(Column::title);
    let rows: Vec<_> = rows.iter().map(line).collect();
    out.table(&headers, &rows)?;
    Ok(())
}

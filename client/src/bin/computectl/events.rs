//! `computectl events`: what happened, a line each.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use computedriver_client::v1::event::About;
use computedriver_client::{Client, Error, EventNews, Events, v1};
use serde_json::json;
use uuid::Uuid;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

const PREFIX: &str = "EVENT_KIND_";

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens, over lost connections too, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// Only events after this sequence. Default: all that are kept; with --follow the present state of every instance,
    /// and then what happens.
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// Only those of this instance, a UUID, and of the whole host; may be repeated.
    #[arg(long = "instance", value_name = "ID")]
    instances: Vec<Uuid>,
    /// Only those of this kind; may be repeated.
    #[arg(long = "kind", value_name = "KIND", ignore_case = true, value_parser = kinds())]
    kinds: Vec<v1::EventKind>,
}

/// Every kind that the contract has, by its short name.
fn kinds() -> impl TypedValueParser<Value = v1::EventKind> {
    let all = (1..).map_while(|number| v1::EventKind::try_from(number).ok());
    PossibleValuesParser::new(all.map(name)).try_map(|name| {
        let full = format!("{PREFIX}{}", name.to_ascii_uppercase());
        v1::EventKind::from_str_name(&full).ok_or("no such kind")
    })
}

fn name(kind: v1::EventKind) -> &'static str {
    text::short(kind.as_str_name(), PREFIX)
}

pub(crate) async fn run(args: EventsArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    if args.follow {
        let client = session.connect_for_good().await?;
        let events = client.events(v1::WatchEventsRequest {
            after: args.after,
            instance_ids: args.instances.iter().map(Uuid::to_string).collect(),
            kinds: args.kinds.into_iter().map(i32::from).collect(),
            ..Default::default()
        });
        return follow(events, out).await;
    }
    let client = session.connect().await?;
    let newest = newest(&client).await?;
    let mut after = args.after.unwrap_or_default();
    if let Err(error) = stored(&client, (after, newest), &args, out).await {
        // Whoever names no cursor wants all there is, and what is kept begins later than the first.
        let oldest = oldest(&error).filter(|_| args.after.is_none());
        after = oldest.ok_or(error)?.saturating_sub(1);
        stored(&client, (after, newest), &args, out).await?;
    }
    Ok(())
}

/// The first event that is kept, told by a server that was asked for older ones.
fn oldest(failure: &Failure) -> Option<u64> {
    match failure {
        Failure::Call(error) if error.reason() == "EVENTS_EXPIRED" => {
            error.fields().get("oldest")?.parse().ok()
        }
        _ => None,
    }
}

/// The sequence of the newest event: the place that a watch without a cursor begins at.
async fn newest(client: &Client) -> Result<u64, Error> {
    let mut events = client.events(v1::WatchEventsRequest::default());
    loop {
        if let EventNews::Synced { sequence, .. } = events.next().await? {
            return Ok(sequence);
        }
    }
}

/// Prints what is kept from one place to the other. The selection is made here, because events that the server leaves
/// out would not tell that the end is reached.
async fn stored(
    client: &Client,
    (after, newest): (u64, u64),
    args: &EventsArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let mut events = client.events(v1::WatchEventsRequest {
        after: Some(after),
        ..Default::default()
    });
    // Asked for even when nothing is to come: a cursor that the server refuses is told.
    while events
        .next()
        .await
        .map(|news| seen(news, &events, args, out))??
        < newest
    {}
    Ok(())
}

fn seen(
    news: EventNews,
    events: &Events,
    args: &EventsArgs,
    out: &mut Out,
) -> Result<u64, Failure> {
    match news {
        EventNews::Happened(event) if args.select(&event) => happened(&event, out)?,
        EventNews::Lost(error) => out.lost(error)?,
        _ => {}
    }
    Ok(events.cursor().unwrap_or_default())
}

impl EventsArgs {
    fn select(&self, event: &v1::Event) -> bool {
        let id = &event.instance_id;
        let mut asked = self.instances.iter();
        let of_it = self.instances.is_empty()
            || id.is_empty()
            || id
                .parse()
                .is_ok_and(|id: Uuid| asked.any(|asked| *asked == id));
        of_it && (self.kinds.is_empty() || self.kinds.contains(&event.kind()))
    }
}

async fn follow(mut events: Events, out: &mut Out) -> Result<(), Failure> {
    loop {
        match events.next().await? {
            EventNews::State(state) => standing(&state, out)?,
            EventNews::Happened(event) => happened(&event, out)?,
            EventNews::Lost(error) => out.lost(error)?,
            EventNews::Synced {
                sequence,
                journal_id,
            } if out.is_json() => {
                let place = json!({ "sequence": sequence, "journal_id": journal_id });
                out.object(&json!({ "synced": place }))?;
            }
            _ => {}
        }
    }
}

fn standing(state: &v1::InstanceInfo, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        let view = json::view("InstanceInfo", state);
        out.object(&json!({ "state": view }))?;
        return Ok(());
    }
    let power = text::power_state(state.state());
    let words = text::printable(&state.display_name);
    out.line(Line {
        time: String::new(),
        sequence: String::new(),
        kind: "STATE",
        of: [&state.instance_id, power, &state.operation_id],
        words,
    })?;
    Ok(())
}

fn happened(event: &v1::Event, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        out.object(&json!({ "event": json::view("Event", event) }))?;
        return Ok(());
    }
    out.line(Line {
        time: text::time(event.time.as_ref()),
        sequence: event.sequence.to_string(),
        kind: name(event.kind()),
        of: [&event.instance_id, &event.reason, &event.operation_id],
        words: words(event),
    })?;
    Ok(())
}

/// What is absent is `-`, so that every line has the same columns.
struct Line<'a> {
    time: String,
    sequence: String,
    kind: &'a str,
    /// Instance, reason and operation.
    of: [&'a str; 3],
    words: String,
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |text: &str| match text {
            "" => "-".to_owned(),
            text => text::printable(text),
        };
        let [instance, reason, operation] = self.of.map(or);
        let (time, sequence) = (or(&self.time), or(&self.sequence));
        let line = format!(
            "{time:<20}  {sequence:>6}  {:<20}  {instance:<36}  {reason:<16}  {operation:<36}  {}",
            self.kind, self.words
        );
        f.write_str(line.trim_end())
    }
}

fn words(event: &v1::Event) -> String {
    let about = match &event.about {
        Some(About::Operation(operation)) => {
            let state = text::operation_state(operation.state());
            let mut words = format!("{} {state}", operation.verb);
            for (what, value) in [("by", &operation.caller), ("image", &operation.image_id)] {
                if !value.is_empty() {
                    words.push_str(&format!(" {what} {value}"));
                }
            }
            words
        }
        Some(About::BlockJob(job)) => {
            let kind = text::short(job.r#type().as_str_name(), "BLOCK_JOB_TYPE_");
            let status = text::short(job.status().as_str_name(), "BLOCK_JOB_STATUS_");
            format!("{kind} {status}")
        }
        Some(About::IoError(error)) => {
            text::short(error.action().as_str_name(), "IO_ERROR_ACTION_").to_owned()
        }
        Some(About::Migration(migration)) => format!("round {}", migration.iteration),
        None => String::new(),
    };
    let power = match event.power_state() {
        v1::PowerState::Unspecified => "",
        state => text::power_state(state),
    };
    let failure = match &event.about {
        Some(About::Operation(v1::OperationEvent {
            error: Some(error), ..
        })) => error.message.as_str(),
        _ => "",
    };
    let parts = [
        event.device_id.as_str(),
        &about,
        power,
        failure,
        &event.detail,
    ];
    let parts = parts.iter().map(|part| text::printable(part));
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use computedriver_client::v1;

    use super::{EventsArgs, words};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        events: EventsArgs,
    }

    #[test]
    fn an_instance_is_a_uuid_however_it_is_written() {
        let of = |id: &str| v1::Event {
            instance_id: id.to_owned(),
            ..Default::default()
        };
        let id = "6f0c7a52-9a3e-4d1b-8c59-0b6a2d4e8f10";
        let line = ["events", "--instance", &id.to_ascii_uppercase()];
        let asked = Line::try_parse_from(line).unwrap().events;
        assert!(asked.select(&of(id)) && asked.select(&of("")));
        assert!(!asked.select(&of("6f0c7a52-9a3e-4d1b-8c59-0b6a2d4e8f11")));
        assert!(Line::try_parse_from(["events", "--instance", "web-1"]).is_err());
    }

    #[test]
    fn an_event_is_told_in_words_that_stay_on_their_line() {
        let event = v1::Event {
            device_id: "root".into(),
            power_state: v1::PowerState::Paused.into(),
            detail: "no space\nleft\u{1b}[2J".into(),
            about: Some(v1::event::About::IoError(v1::IoErrorEvent {
                action: v1::IoErrorAction::Paused.into(),
            })),
            ..Default::default()
        };
        assert_eq!(words(&event), "root · PAUSED · PAUSED · no space left [2J");
    }
}

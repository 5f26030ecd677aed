//! As much of a Redis as a host must see to be joined. It counts the trips that it is asked for and refuses each as if the
//! fleet had recovered since, so that the host closes at once and goes on counting.

use breakerd_core::fleet::command::APPLY_HEAD_WORDS;
use breakerd_core::fleet::op::OP_WORDS;
use breakerd_core::fleet::{Command, CommandKind, Datum, Heard, Request, Said, Value};
use breakerd_core::{Core, fleet};
use breakerd_proto::Mono;

const HEAD: [&str; 3] = ["24681e952bb3748c", "1048577", "41428ff4"];

#[derive(Default)]
pub(crate) struct Redis {
    connection: fleet::ConnectionNumber,
    /// Trips of the fleet that it was asked for.
    pub(crate) trips: u64,
}

impl Redis {
    /// Does what the core asks for, and tells it what came of it, until it asks for nothing more.
    pub(crate) fn serve(&mut self, now: Mono, core: &mut Core) {
        while let Some(request) = core.poll_request() {
            let said = match request {
                Request::Connect(number) => {
                    self.connection = number;
                    Said::Connected
                }
                Request::Close => continue,
                Request::Send(id, command) => Said::Reply(id, Ok(self.answer(now, &command))),
            };
            core.handle_heard(now, Heard { connection: self.connection, said });
        }
    }

    fn answer(&mut self, now: Mono, command: &Command) -> Datum {
        let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
        let ms = now.0 / 1_000_000;
        match (command.kind, words[0]) {
            (CommandKind::Apply, _) => {
                let ops = words[APPLY_HEAD_WORDS..].chunks(OP_WORDS);
                self.trips += ops.clone().filter(|op| op[0] == "trip").count() as u64;
                let closed = format!("STALE|{}", Value::default());
                let results = ops.map(|_| closed.clone());
                let head = ["OK", HEAD[0], HEAD[1], HEAD[2]].map(str::to_owned);
                texts(head.into_iter().chain([ms.to_string()]).chain(results))
            }
            (_, "ROLE") => Datum::List(vec![text("master"), Datum::Int(0)]),
            (_, "TIME") => texts([(ms / 1000).to_string(), (ms % 1000 * 1000).to_string()]),
            (_, "HMGET") => texts(HEAD.map(str::to_owned)),
            (_, "HGETALL") => {
                let meta = ["!e", HEAD[0], "!s", HEAD[1], "!t", HEAD[2], "!f", "0", "!v", "1"];
                texts(meta.map(str::to_owned))
            }
            _ => Datum::Nil,
        }
    }
}

fn text(text: &str) -> Datum {
    Datum::Bytes(text.as_bytes().to_vec())
}

fn texts(all: impl IntoIterator<Item = String>) -> Datum {
    Datum::List(all.into_iter().map(|word| text(&word)).collect())
}

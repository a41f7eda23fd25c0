//! Commands that ask the daemon.

use std::fmt::Write as _;
use std::path::Path;

use super::args::{BackendVerb, ListOnly, Remote, SessionVerb};
use super::output::Output;
use super::{Failure, tables};
use crate::api::{ApplyRequest, Client, DrainRequest, UndrainRequest, WeightRequest};
use crate::daemon::view::{Difference, Done, Reloaded, Session, Verified};

pub(super) fn run(command: Remote, socket: &Path, output: &Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Io(format!("cannot start: {e}")))?;
    runtime.block_on(ask(command, &Client::new(socket), output))
}

async fn ask(command: Remote, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Remote::Status => output.show(&client.get("/v1/status").await?, tables::status),
        Remote::Tenant(ListOnly::List) => {
            output.show(&client.get::<Vec<_>>("/v1/tenants").await?, |v| tables::tenants(v))
        }
        Remote::Service(ListOnly::List) => {
            output.show(&client.get::<Vec<_>>("/v1/services").await?, |v| tables::services(v))
        }
        Remote::Pool(ListOnly::List) => {
            output.show(&client.get::<Vec<_>>("/v1/pools").await?, |v| tables::pools(v))
        }
        Remote::Route(ListOnly::List) => {
            output.show(&client.get::<Vec<_>>("/v1/routes").await?, |v| tables::routes(v))
        }
        Remote::Nexthop(ListOnly::List) => {
            output.show(&client.get::<Vec<_>>("/v1/nexthops").await?, |v| tables::nexthops(v))
        }
        Remote::Counters { all } => {
            let counters: Vec<_> = client.get("/v1/counters").await?;
            output.show(&counters, |v| tables::counters(v, all))
        }
        Remote::Backend(verb) => backend(verb, client, output).await,
        Remote::Session(verb) => session(verb, client, output).await,
        Remote::Reload => {
            let reloaded: Reloaded = client.post("/v1/reload", &()).await?;
            output.show(&reloaded, tables::reloaded)
        }
        Remote::Diff => {
            let difference: Difference = client.get("/v1/difference").await?;
            output.show(&difference, tables::difference)
        }
        Remote::Apply { confirm } => {
            let request = ApplyRequest { confirm: confirm.map(|time| time.as_secs()) };
            let reloaded: Reloaded = client.post("/v1/apply", &request).await?;
            output.show(&reloaded, tables::reloaded)
        }
        Remote::Confirm => {
            let done: Done = client.post("/v1/confirm", &()).await?;
            output.show(&done, |done| done.message.clone())
        }
        Remote::Verify => {
            let verified: Verified = client.post("/v1/verify", &()).await?;
            output.show(&verified, tables::verified)
        }
        Remote::Revert => {
            let reloaded: Reloaded = client.post("/v1/revert", &()).await?;
            output.show(&reloaded, tables::reloaded)
        }
    }
}

async fn backend(verb: BackendVerb, client: &Client, output: &Output) -> Result<(), Failure> {
    let done: Done = match verb {
        BackendVerb::List => {
            let backends: Vec<_> = client.get("/v1/backends").await?;
            return output.show(&backends, |v| tables::backends(v));
        }
        BackendVerb::Drain { names, deadline, spread } => {
            let (deadline, spread) = (deadline.map(|d| d.as_secs()), spread.map(|s| s.as_secs()));
            let (mut drained, mut failed): (Vec<Done>, Vec<Failure>) = Default::default();
            for backend in names {
                let request = DrainRequest { backend, deadline, spread };
                match client.post("/v1/backends/drain", &request).await {
                    Ok(done) => drained.push(done),
                    Err(e) => failed.push(e.into()),
                }
            }
            return match failed.pop() {
                // The daemon's own words.
                Some(only) if failed.is_empty() && drained.is_empty() => Err(only),
                last => {
                    failed.extend(last);
                    show_all(&drained, &failed, output)
                }
            };
        }
        BackendVerb::Undrain { name } => {
            client.post("/v1/backends/undrain", &UndrainRequest { backend: name }).await?
        }
        BackendVerb::Weight { name, weight } => {
            let request = WeightRequest { backend: name, weight: weight.0 };
            client.post("/v1/backends/weight", &request).await?
        }
    };
    output.show(&done, |done| done.message.clone())
}

/// Shows what was done for several, at once when all were asked for: nobody stops it half way by not reading on.
fn show_all(done: &[Done], failed: &[Failure], output: &Output) -> Result<(), Failure> {
    let messages: Vec<_> = done.iter().map(|done| done.message.clone()).collect();
    if !failed.is_empty() {
        let why: Vec<_> = failed.iter().map(ToString::to_string).collect();
        return Err(Failure::Partly { why: why.join("; "), done: messages });
    }
    match done {
        [one] => output.show(one, |done| done.message.clone()),
        all => output.show(&all, |_| messages.join("\n")),
    }
}

async fn session(verb: SessionVerb, client: &Client, output: &Output) -> Result<(), Failure> {
    match verb {
        SessionVerb::List { tenant, service, backend, client: address, limit } => {
            let mut path = "/v1/sessions?".to_owned();
            let mut add = |key: &str, value: Option<String>| {
                if let Some(value) = value {
                    let _ = write!(path, "{key}={}&", encoded(&value));
                }
            };
            add("tenant", tenant);
            add("service", service);
            add("backend", backend);
            add("client", address.map(|a| a.to_string()));
            add("limit", limit.map(|n| n.to_string()));
            let sessions: Vec<Session> = client.get(&path).await?;
            output.show(&sessions, |v| tables::sessions(v))
        }
        SessionVerb::Show { id } => {
            let session: Session = client.get(&format!("/v1/sessions/{}", encoded(&id))).await?;
            output.show(&session, tables::session)
        }
        SessionVerb::Kill { id } => {
            let done: Done = client.delete(&format!("/v1/sessions/{}", encoded(&id))).await?;
            output.show(&done, |done| done.message.clone())
        }
    }
}

/// Percent-encoding (RFC 3986 2.1) of everything that is not unreserved.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn names_survive_the_way() {
        assert_eq!(encoded("pool/wg-1"), "pool%2Fwg-1");
        assert_eq!(encoded("2001:db8::1"), "2001%3Adb8%3A%3A1");
        assert_eq!(encoded("ä b"), "%C3%A4%20b");
    }
}

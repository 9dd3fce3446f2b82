use anyhow::bail;
use benchmark_service::auth::{ApiKey, Pepper};
use chrono::TimeDelta;
use rand::rngs::SysRng;
use shared_types::Clock;
use storage::{ApiKeyId, ApiKeyRecord, Scope, Storage};

use crate::{cli::Keys, context::Context, pepper::pepper, say::say, table::table};

pub(crate) async fn run(action: Keys, context: Context) -> anyhow::Result<()> {
    let storage = context.storage().await?;
    match action {
        Keys::Create {
            name,
            scope,
            expires_in,
        } => {
            let lifetime = expires_in.map(|days| TimeDelta::days(days.into()));
            let key = create(storage.as_ref(), &context, name, scope, lifetime).await?;
            say!("{}", key.expose());
            eprintln!(
                "this is the only time the key is shown; send it as the header `X-API-KEY`. Running services know it within seconds"
            );
        }
        Keys::List => show(&storage.api_keys().await?, context.clock.as_ref()),
        Keys::Revoke { id } => {
            if ApiKey::parse(&id).is_some() {
                bail!("found a whole key, expected its id: the part between llmb_ and the second _");
            }
            storage
                .revoke_api_key(&ApiKeyId(id.clone()), context.clock.now())
                .await?;
            say!("revoked {id}; running services notice within 30 seconds");
        }
    }
    Ok(())
}

/// Makes a random key and stores its hash.
pub(crate) async fn create(
    storage: &dyn Storage,
    context: &Context,
    name: String,
    scope: Scope,
    lifetime: Option<TimeDelta>,
) -> anyhow::Result<ApiKey> {
    let (key, created_at) = (ApiKey::draw(&mut SysRng)?, context.clock.now());
    let record = ApiKeyRecord {
        id: key.id().clone(),
        name,
        scope,
        hash: key.hash(&Pepper::new(&pepper(context)?)),
        created_at,
        expires_at: lifetime.map(|lifetime| created_at + lifetime),
        revoked_at: None,
    };
    storage.add_api_key(&record).await?;
    Ok(key)
}

fn show(keys: &[ApiKeyRecord], clock: &dyn Clock) {
    if keys.is_empty() {
        say!("there are no keys; `llm-bench keys create NAME --scope read` makes one");
        return;
    }
    let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    let rows = keys.iter().map(|key| {
        let state = match (key.revoked_at, key.expires_at) {
            (Some(at), _) => format!("revoked {}", time(at)),
            (None, Some(at)) if at <= clock.now() => format!("expired {}", time(at)),
            (None, Some(at)) => format!("until {}", time(at)),
            (None, None) => "in use".to_owned(),
        };
        [
            key.id.0.clone(),
            key.name.clone(),
            key.scope.as_str().to_owned(),
            time(key.created_at),
            state,
        ]
    });
    say!(
        "{}",
        table(["id", "name", "scope", "created", "state"], &[], rows)
    );
}

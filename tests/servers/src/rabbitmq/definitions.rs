//! RabbitMQ's definitions: the document in which `rabbitmqctl` and the management plugin take virtual hosts and users.

use serde_json::{Value, json};

/// A virtual host in which `user` may do everything.
pub(super) fn vhost(vhost: &str, user: &str) -> String {
    json!({"vhosts": [{"name": vhost}], "permissions": [everything(vhost, user)]}).to_string()
}

/// A virtual host and a new user of the same name, who may do everything in it and nothing elsewhere.
pub(super) fn vhost_with_owner(vhost: &str, password: &str) -> String {
    json!({
        "vhosts": [{"name": vhost}],
        "users": [{"name": vhost, "password": password, "tags": ""}],
        "permissions": [everything(vhost, vhost)],
    })
    .to_string()
}

fn everything(vhost: &str, user: &str) -> Value {
    json!({"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"})
}

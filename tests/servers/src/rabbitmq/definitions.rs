//! RabbitMQ's definitions: the JSON from which `rabbitmqctl` and the management plugin create virtual hosts and users.

use serde_json::{Value, json};

/// A virtual host in which `user` has all permissions.
pub(super) fn vhost(vhost: &str, user: &str) -> String {
    json!({"vhosts": [{"name": vhost}], "permissions": [all_permissions(vhost, user)]}).to_string()
}

/// A virtual host and a new user of the same name, with all permissions in it and none elsewhere.
pub(super) fn vhost_with_owner(vhost: &str, password: &str) -> String {
    json!({
        "vhosts": [{"name": vhost}],
        "users": [{"name": vhost, "password": password, "tags": ""}],
        "permissions": [all_permissions(vhost, vhost)],
    })
    .to_string()
}

fn all_permissions(vhost: &str, user: &str) -> Value {
    json!({"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"})
}

//! RabbitMQ's definitions: the document in which `rabbitmqctl` and the management plugin take virtual hosts and users.

/// A virtual host in which `user` may do everything.
pub(super) fn vhost(vhost: &str, user: &str) -> String {
    format!(
        r#"{{"vhosts": [{{"name": "{vhost}"}}], {}}}"#,
        permission(vhost, user)
    )
}

/// A virtual host and a new user of the same name, who may do everything in it and nothing elsewhere.
pub(super) fn vhost_with_owner(vhost: &str, password: &str) -> String {
    format!(
        r#"{{"vhosts": [{{"name": "{vhost}"}}], "users": [{{"name": "{vhost}", "password": "{password}", "tags": ""}}],
            {}}}"#,
        permission(vhost, vhost)
    )
}

fn permission(vhost: &str, user: &str) -> String {
    format!(
        r#""permissions": [{{"user": "{user}", "vhost": "{vhost}", "configure": ".*", "write": ".*", "read": ".*"}}]"#
    )
}

//! How the parts of the service declare their Prometheus metrics.

pub(crate) use prometheus::{
    register_histogram_vec_with_registry as histogram_vec, register_histogram_with_registry as histogram,
    register_int_counter_vec_with_registry as counter_vec, register_int_counter_with_registry as counter,
    register_int_gauge_vec_with_registry as gauge_vec, register_int_gauge_with_registry as gauge,
};

/// Defines a struct of Prometheus metrics with a function `register`, which adds all of them to a registry. Each field
/// names its type, the macro of this module that makes it, and what that macro takes: name, help, then labels or buckets.
macro_rules! telemetry {
    ($(#[$doc:meta])* struct $name:ident { $($field:ident: $type:ty = $make:ident($($argument:expr),+);)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type),+
        }

        impl $name {
            pub(crate) fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
                Ok(Self {
                    $($field: $crate::telemetry::$make!($($argument),+, registry)?),+
                })
            }
        }
    };
}
pub(crate) use telemetry;

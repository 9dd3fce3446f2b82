/// Defines an enum of fixed choices: reads and writes the name of each on the wire, and describes it in the OpenAPI
/// document.
macro_rules! choice {
    ($(#[$doc:meta])* $visibility:vis $name:ident, $field:literal, $expected:literal, default $default:ident,
     $($(#[$variant_doc:meta])* $variant:ident = $wire:tt),+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
        $(#[$doc])*
        $visibility enum $name {
            $($(#[$variant_doc])* #[serde(rename = $wire)] $variant),+
        }

        impl $name {
            /// Every choice, in the order of [`Self::EXPECTED`].
            $visibility const ALL: &[Self] = &[$(Self::$variant),+];
            /// The choices in words.
            $visibility const EXPECTED: &str = $expected;

            /// The name on the wire.
            #[must_use]
            $visibility fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire),+ }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }

        impl std::str::FromStr for $name {
            type Err = shared_types::Invalid;

            fn from_str(raw: &str) -> Result<Self, Self::Err> {
                let named = Self::ALL.iter().find(|choice| choice.as_str() == raw);
                named
                    .copied()
                    .ok_or_else(|| shared_types::Invalid::new($field, raw, Self::EXPECTED))
            }
        }
    };
}

pub(crate) use choice;

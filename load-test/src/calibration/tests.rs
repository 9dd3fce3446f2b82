use std::num::NonZeroU32;

use super::*;
use crate::{run::tests::plan, verdict};

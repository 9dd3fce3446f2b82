//! A plot with its heading and caption.

use maud::{Markup, html};

/// A plot (or what stands for it), with what is above and below it.
pub(super) fn figure(title: &str, plot: &Markup, caption: &Markup) -> Markup {
    html! {
        figure {
            h3 { (title) }
            (plot)
            figcaption { (caption) }
        }
    }
}

/// An entry of a plot's key: its colour and what it stands for.
pub(super) fn key(class: &str, meaning: &str) -> Markup {
    html! { span class="key" { span class=(format!("swatch {class}")) {} (meaning) } }
}

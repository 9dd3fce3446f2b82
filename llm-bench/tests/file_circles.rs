//! No circles between the files of a crate: where one file uses another, directly or through others, the other does not
//! use it back. A module and the modules inside it may use each other; a circle that passes from one to the other is not
//! seen. Nor are calls of methods, and names that come by a glob.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::MetadataCommand;
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, File, Item, ItemUse, Macro, UseTree,
    visit::{self, Visit},
};

/// The path of a module in its crate: empty for the root.
type Module = Vec<String>;

/// What a file says: the paths it uses, and the names that its `use` items bring into it.
#[derive(Default)]
struct Uses {
    paths: Vec<Vec<String>>,
    imports: Vec<Vec<String>>,
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let mut found = Vec::new();
        leaves(&item.tree, &mut Vec::new(), &mut found);
        self.paths.extend(found.iter().cloned());
        self.imports.extend(found);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string());
        self.paths.push(segments.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast Macro) {
        self.paths_in_tokens(invoked.tokens.clone());
        visit::visit_macro(self, invoked);
    }
}

impl Uses {
    /// The arguments of a macro are not parsed: any `a::b::c` in them counts as a path.
    fn paths_in_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.paths.push(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.paths.push(std::mem::take(&mut path));
                    self.paths_in_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.paths.push(std::mem::take(&mut path)),
            }
        }
        self.paths.push(path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether the attribute is `#[cfg(test)]`.
fn is_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .meta
            .require_list()
            .is_ok_and(|list| list.tokens.to_string() == "test")
}

/// The full path of each name in a `use` item.
fn leaves(tree: &UseTree, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            leaves(&path.tree, prefix, found);
            prefix.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                leaves(tree, prefix, found);
            }
        }
        UseTree::Name(name) => found.push([prefix.as_slice(), &[name.ident.to_string()]].concat()),
        UseTree::Rename(name) => found.push([prefix.as_slice(), &[name.ident.to_string()]].concat()),
        UseTree::Glob(_) => found.push(prefix.clone()),
    }
}

/// A crate's files by the module that each one is. Files of tests are left out.
fn files(sources: &Path) -> BTreeMap<Module, PathBuf> {
    let mut found = BTreeMap::new();
    let mut open = vec![sources.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(sources).unwrap().with_extension("");
                let mut module: Module = relative
                    .iter()
                    .map(|name| name.to_str().unwrap().to_owned())
                    .collect();
                match module.last().unwrap().as_str() {
                    // The root of the program, beside the root of the library.
                    "main" if sources.join("lib.rs").exists() => continue,
                    "mod" | "lib" | "main" => drop(module.pop()),
                    _ => {}
                }
                if !module.iter().any(|name| name == "tests") {
                    found.insert(module, path);
                }
            }
        }
    }
    found
}

/// The file that a path written in `module` leads to, and what of the path is left then.
fn locate(
    modules: &BTreeMap<Module, Uses>,
    module: &[String],
    path: &[String],
) -> Option<(Module, Vec<String>)> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" | "self" | "super" => {}
        first => {
            let child = [module, &[first.to_owned()]].concat();
            modules.get(&child)?;
        }
    }
    while let Some((first, tail)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        rest = tail;
    }
    (0..=rest.len()).rev().find_map(|taken| {
        let found = [base.as_slice(), &rest[..taken]].concat();
        modules
            .contains_key(&found)
            .then(|| (found, rest[taken..].to_vec()))
    })
}

/// The file that a path leads to, through the `use` items of the modules on the way.
fn resolve(modules: &BTreeMap<Module, Uses>, module: &[String], path: &[String]) -> Option<Module> {
    let (mut found, mut rest) = locate(modules, module, path)?;
    // A chain of re-exports is finite, unless it is a circle that does not compile.
    for _ in 0..10 {
        let Some(name) = rest.first() else { break };
        let import = modules[&found]
            .imports
            .iter()
            .filter(|import| import.last() == Some(name))
            .find_map(|import| locate(modules, &found, import))
            .filter(|(through, _)| *through != found);
        let Some(next) = import else { break };
        (found, rest) = next;
    }
    Some(found)
}

/// Files that use each other, as text; empty where there are none.
fn circles(sources: &Path) -> Vec<String> {
    let modules: BTreeMap<Module, Uses> = files(sources)
        .into_iter()
        .map(|(module, path)| {
            let file: File = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
            let mut uses = Uses::default();
            uses.visit_file(&file);
            (module, uses)
        })
        .collect();
    let related = |a: &Module, b: &Module| a.starts_with(b) || b.starts_with(a);
    let edges: BTreeMap<&Module, BTreeSet<Module>> = modules
        .iter()
        .map(|(module, uses)| {
            let used = uses
                .paths
                .iter()
                .filter_map(|path| resolve(&modules, module, path))
                .filter(|used| !related(used, module));
            (module, used.collect())
        })
        .collect();
    let reachable = |start: &Module| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(module) = open.pop() {
            for used in &edges[module] {
                if seen.insert(used.clone()) {
                    open.push(used);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        modules.keys().map(|module| (module, reachable(module))).collect();
    let mut found = BTreeSet::new();
    for (module, targets) in &reached {
        if targets.contains(*module) {
            let circle: Vec<_> = targets
                .iter()
                .filter(|target| reached[target].contains(*module))
                .map(|target| target.join("::"))
                .collect();
            found.insert(circle.join(" ↔ "));
        }
    }
    found.into_iter().collect()
}

#[test]
fn no_files_of_a_crate_use_each_other() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let found: Vec<_> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            (
                package.name.to_string(),
                package.manifest_path.parent().unwrap().join("src"),
            )
        })
        // Some crates are tests only.
        .filter(|(_, sources)| sources.is_dir())
        .flat_map(|(name, sources)| {
            circles(sources.as_std_path())
                .into_iter()
                .map(move |circle| format!("{name}: {circle}"))
        })
        .collect();
    assert!(
        found.is_empty(),
        "files that use each other:\n{}",
        found.join("\n")
    );
}

#[test]
fn a_circle_is_found_through_re_exports_macros_and_other_files() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("lib.rs", "mod a; mod b; mod c; mod d; pub use c::C;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "pub struct B(crate::C);"),
        ("c.rs", "pub struct C; fn f() { println!(\"{}\", crate::a::A); }"),
        (
            "d.rs",
            "use crate::a::A; #[cfg(test)] mod tests { use crate::c::C; }",
        ),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    assert_eq!(circles(folder.path()), ["a ↔ b ↔ c"]);
    fs::write(
        folder.path().join("c.rs"),
        "#[cfg(test)] mod tests { use crate::a::A; } pub struct C;",
    )
    .unwrap();
    assert_eq!(circles(folder.path()), [""; 0]);
}

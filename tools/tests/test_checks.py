"""The layering and licence checks bite."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import check_layers  # noqa: E402
import check_licences  # noqa: E402


def package(name, *dependencies, dev=()):
    return {"name": name, "dependencies": [{"name": d, "kind": None} for d in dependencies]
            + [{"name": d, "kind": "dev"} for d in dev]}


def dependencies(*packages):
    every = {name: package(name) for name in check_layers.ALLOWED}
    every.update({p["name"]: p for p in packages})
    return list(check_layers.check_dependencies(every.values()))


def source(crate, text, path="src/lib.rs"):
    return [finding for _, finding in check_layers.check_source(crate, path, text)]


class Layers(unittest.TestCase):
    def test_arrows_that_point_down_pass(self):
        self.assertEqual(dependencies(
            package("copal-cli", "copal", "copal-daemon", "clap"), package("copal", "copal-sqlite", "copal-repository", "copal-core"),
            package("copal-sqlite", "copal-core", "copal-storage"), package("copal-repository", "copal-storage")), [])

    def test_arrows_that_point_up_or_sideways_are_found(self):
        for crate, other in (("copal-core", "copal-storage"), ("copal-storage", "copal-core"),
                             ("copal-sqlite", "copal-repository"), ("copal-sqlite", "copal-duckdb"),
                             ("copal-repository", "copal-sqlite"), ("copal-repository", "copal"),
                             ("copal-cli", "copal-repository"), ("copal-daemon", "copal-core"),
                             ("copal-daemon", "copal-cli")):
            self.assertEqual(dependencies(package(crate, other)), [f"{crate} must not depend on {other}"])
            if (crate, other) not in check_layers.DEV_EXCEPTIONS:
                self.assertEqual(len(dependencies(package(crate, dev=[other]))), 1)

    def test_exceptions_are_for_tests_only(self):
        for crate, other in check_layers.DEV_EXCEPTIONS:
            self.assertEqual(dependencies(package(crate, dev=[other])), [])
            self.assertEqual(len(dependencies(package(crate, other))), 1)

    def test_new_crates_must_be_placed(self):
        self.assertEqual(len(dependencies(package("copal-oracle"))), 1)

    def test_core_does_no_io(self):
        self.assertEqual(len(dependencies(package("copal-core", "tokio"))), 1)
        for text in ("use std::fs;", "use std::{fmt, fs::File};", "let f = std::net::TcpStream::connect(a);",
                     "use std::{\n    collections::{BTreeMap, HashMap},\n    process,\n};", "tokio::spawn(f);"):
            self.assertEqual(len(source("copal-core", text)), 1, text)
        for text in ("use std::{fmt, collections::{fs}};", "// std::fs", 'let a = "std::fs";', "/* /* */ std::fs */",
                     "use std::io;", "//! No tokio::x", "#[cfg(test)]\nmod tests { use std::fs; }",
                     'let a = r#"" std::fs "#;', "let q = '\"'; let b = \"std::fs\";"):
            self.assertEqual(source("copal-core", text), [], text)
        self.assertEqual(len(source("copal-core", "fn f<'a>(x: &'a str) { std::fs::read(x) } // 'a'")), 1)
        self.assertEqual(len(source("copal-core", "#[cfg(test)]\nmod tests;\nuse std::fs;")), 1)
        self.assertEqual(source("copal-storage", "use std::fs;"), [])

    def test_engines_use_local_files_only(self):
        for text in ("use copal_storage::local_file::replace;", "use copal_storage::{StorageError, local_file};",
                     "use copal_storage::{local_file::{lease, a}, Result};"):
            self.assertEqual(source("copal-sqlite", text), [], text)
        for text in ("use copal_storage::lease;", "use copal_storage::{local_file, Storage};", "use copal_storage::*;",
                     "object_store::parse_url(x)"):
            self.assertEqual(len(source("copal-sqlite", text)), 1, text)
        self.assertEqual(source("copal-repository", "use copal_storage::lease;"), [])

    def test_libraries_do_not_print(self):
        for call in ('println!("x")', 'eprintln!("x")', "dbg!(x)", 'print!("x")', 'eprint!("x")'):
            text = f"fn f() {{ {call}; }}"
            self.assertEqual(len(source("copal", text)), 1, text)
            self.assertEqual(source("copal-cli", text), [])
            self.assertEqual(source("copal", text, "tests/a.rs"), [])
            self.assertEqual(source("copal", text, "src/a/tests.rs"), [])
            self.assertEqual(source("copal", f"#[cfg(test)]\nmod tests {{ mod a {{}} {text} }}"), [])
            self.assertEqual(len(source("copal", f"#[cfg(test)]\nmod tests {{ mod a {{}} }}\n{text}")), 1)

    def test_long_files_need_a_reason(self):
        text = "//! A file.\n" + "\n" * 600
        self.assertEqual(len(source("copal", text)), 1)
        self.assertEqual(len(source("copal", text, "tests/a.rs")), 1)
        self.assertEqual(source("copal", "//! Long because it is a table.\n" + text), [])
        self.assertEqual(source("copal", "\n" * 600), [])

    def test_findings_say_where(self):
        found = list(check_layers.check_source("copal", "src/a.rs", "// a\n/* b\n */\nfn f() { dbg!(1); }"))
        self.assertEqual([line for line, _ in found], [4])


class Licences(unittest.TestCase):
    def test_expressions(self):
        for expression in ("MIT", "MIT/Apache-2.0", "GPL-2.0-only OR MIT", "(MIT OR GPL-3.0-only) AND ISC",
                           "Apache-2.0 WITH LLVM-exception", "MIT AND (Apache-2.0 OR LGPL-2.1-or-later)"):
            self.assertTrue(check_licences.is_permissive(expression), expression)
        for expression in ("GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT OR ISC) AND LGPL-2.1-only", "", "MIT OR",
                           "MIT)",
                           "(MIT", "MIT ISC", "Apache-2.0 WITH Other-exception", "AND", "MIT WITH"):
            self.assertFalse(check_licences.is_permissive(expression), expression)

    def test_unknown_licences_and_new_duplicates_are_found(self):
        def crate(name, version, licence="MIT"):
            return {"name": name, "version": version, "license": licence}

        two = [crate("a", "1.0.0"), crate("a", "2.1.0")]
        self.assertEqual(len(check_licences.findings(two, {})[0]), 1)
        self.assertEqual(check_licences.findings(two, {"a": {"1", "2"}}), ([], []))
        self.assertEqual(len(check_licences.findings(two + [crate("a", "0.3.0")], {"a": {"1", "2"}})[0]), 1)
        self.assertEqual(check_licences.findings([crate("a", "1.0.0"), crate("a", "1.4.0")], {}), ([], []))
        self.assertEqual(len(check_licences.findings([crate("a", "1.0.0")], {"a": {"1", "2"}})[1]), 1)
        unknown = [crate("a", "1.0.0", None), crate("b", "1.0.0", "SSPL-1.0")]
        self.assertEqual(len(check_licences.findings(unknown, {})[0]), 2)

    def test_excuses_need_a_reason(self):
        self.assertEqual(check_licences.read_excuses("# c\n\na 1 2: because\n"), {"a": {"1", "2"}})
        for text in ("a 1 2", "a 1 2:", "a 1: b"):
            with self.assertRaises(ValueError):
                check_licences.read_excuses(text)

    def test_series(self):
        versions = {"1.4.2": "1", "0.3.7": "0.3", "0.0.5": "0.0.5", "1.2.1+spec-1.1.0": "1", "10.0.0": "10"}
        for version, series in versions.items():
            self.assertEqual(check_licences.compatible_series(version), series)


if __name__ == "__main__":
    unittest.main()

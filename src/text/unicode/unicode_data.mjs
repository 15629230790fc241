// Writes unicode_data.cpp from the Unicode Character Database, as the npm packages @unicode/unicode-* of
// the versions below have it. The reference implementation is made of parts that know different versions.
//
//   npm install --prefix FOLDER @unicode/unicode-{8,9,16,17}.0.0
//   node unicode_data.mjs FOLDER > unicode_data.cpp
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const folder = path.resolve(process.argv[2], 'node_modules', '@unicode');
const packageOf = (version) => path.join(folder, `unicode-${version}.0.0`);
const load = async (version, name, kind) =>
    (await import(pathToFileURL(path.join(packageOf(version), name, `${kind}.mjs`)))).default;
const ranges = async (version, name) =>
    (await load(version, name, 'ranges')).map(({ begin, end }) => [begin, end - 1]);
const hex = (value) => `0x${value.toString(16).toUpperCase()}`;
const list = (items) => items.join(', ');

const CATEGORIES = {
  Lu: 'Uppercase_Letter', Ll: 'Lowercase_Letter', Lt: 'Titlecase_Letter', Lm: 'Modifier_Letter', Lo: 'Other_Letter',
  Mn: 'Nonspacing_Mark', Mc: 'Spacing_Mark', Me: 'Enclosing_Mark', Nd: 'Decimal_Number', Nl: 'Letter_Number',
  No: 'Other_Number', Pc: 'Connector_Punctuation', Pd: 'Dash_Punctuation', Ps: 'Open_Punctuation',
  Pe: 'Close_Punctuation', Pi: 'Initial_Punctuation', Pf: 'Final_Punctuation', Po: 'Other_Punctuation',
  Sm: 'Math_Symbol', Sc: 'Currency_Symbol', Sk: 'Modifier_Symbol', So: 'Other_Symbol', Zs: 'Space_Separator',
  Zl: 'Line_Separator', Zp: 'Paragraph_Separator', Cc: 'Control', Cf: 'Format', Cs: 'Surrogate', Co: 'Private_Use',
  Cn: 'Unassigned',
};

// Every stretch of one value as its start and the value's number; what has no value is 0.
async function stretches(version, names) {
  const starts = [];
  for (const [i, name] of names.entries()) {
    for (const [first, last] of await ranges(version, name)) starts.push([first, last, i + 1]);
  }
  starts.sort((a, b) => a[0] - b[0]);
  const out = [];
  let next = 0;
  for (const [first, last, value] of starts) {
    if (first > next) out.push([next, 0]);
    if (out.length === 0 || out.at(-1)[1] !== value || first > next) out.push([first, value]);
    next = last + 1;
  }
  if (next <= 0x10FFFF) out.push([next, 0]);
  return out;
}

// A mapping as runs of characters, every `step` of which moves by `delta`.
function runs(map) {
  const out = [];
  for (const [from, to] of [...map].sort((a, b) => a[0] - b[0])) {
    const delta = to - from;
    const run = out.at(-1);
    if (run && run.delta === delta && run.first === run.last && from - run.last <= 2) run.step = from - run.last;
    if (run && run.delta === delta && from === run.last + run.step) run.last = from;
    else out.push({ first: from, last: from, step: 1, delta });
  }
  return out.map(({ first, last, step, delta }) => `{${hex(first)}, ${hex(last)}, ${step}, ${delta}}`);
}

const print = (text) => process.stdout.write(`${text.replace(/(.{1,99}(?:,|$))(?: |$)/gm, '$1\n')}`);
const printRanges = async (name, version, property) =>
    print(`const std::initializer_list<CodePointRange> ${name} = {` +
          list((await ranges(version, property)).map(([first, last]) => `{${hex(first)}, ${hex(last)}}`)) + '};');
const printStretches = async (name, version, names) =>
    print(`const std::initializer_list<std::uint32_t> ${name} = {` +
          list((await stretches(version, names)).map(([first, value]) => hex(first * 256 + value))) + '};');

process.stdout.write(`// Written by unicode_data.mjs from the Unicode Character Database, versions 8.0, 9.0, 16.0
// and 17.0, as the npm packages @unicode/unicode-* (MIT) have it. Copyright 1991-2025 Unicode,
// Inc., under the Unicode License v3 (https://www.unicode.org/license.txt), which allows to copy,
// modify and distribute the data files.
#include "text/unicode/unicode_data.hpp"

namespace powerprefill::text::unicode_data {

// clang-format off
`);
print(`const std::initializer_list<const char*> kCategoryNames = {${list(Object.entries(CATEGORIES).map(
    ([short, long]) => `"${short}", "${long}"`))}};`);
await printStretches('kCategories', 16, Object.values(CATEGORIES).map((name) => `General_Category/${name}`));
const scripts = fs.readdirSync(path.join(packageOf(16), 'Script')).filter((name) => !name.startsWith('index.')).sort();
print(`const std::initializer_list<const char*> kScriptNames = {${list(scripts.map((name) => `"${name}"`))}};`);
await printStretches('kScripts', 16, scripts.map((name) => `Script/${name}`));
for (const name of ['Alphabetic', 'Uppercase', 'Lowercase', 'Emoji', 'Ideographic']) {
  await printRanges(`k${name}`, 16, `Binary_Property/${name}`);
}
await printRanges('kNumeric', 17, 'General_Category/Number');
await printRanges('kPunctuation', 8, 'General_Category/Punctuation');
await printRanges('kUnassigned', 9, 'General_Category/Unassigned');
const folds = [...await load(16, 'Case_Folding/C', 'code-points'), ...await load(16, 'Case_Folding/S', 'code-points')];
print(`const std::initializer_list<CaseRun> kCaseFolding = {${list(runs(folds))}};`);
print(`const std::initializer_list<CaseRun> kLowerCase = {${
  list(runs(await load(17, 'Simple_Case_Mapping/Lowercase', 'code-points')))}};`);
const full = [...await load(16, 'Case_Folding/F', 'code-points')].sort((a, b) => a[0] - b[0]);
print(`const std::initializer_list<FullFolding> kFullFolding = {${list(full.map(
    ([from, to]) => `{${hex(from)}, {${list(to.map(hex))}}}`))}};`);
process.stdout.write(`
// clang-format on

}  // namespace powerprefill::text::unicode_data
`);

// Runs llama.cpp for peers.py through node-llama-cpp: one JSON request a line on standard input, one
// JSON answer a line on standard output. Arguments: the folder that has node_modules.
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import {pathToFileURL} from "node:url";

const packages = path.join(path.resolve(process.argv[2]), "node_modules");
const entry = path.join(packages, "node-llama-cpp", "dist", "index.js");
const {getLlama} = await import(pathToFileURL(entry));

// Where the weights are tells whether they were packed for the CPU (CPU_REPACK, AMX).
function logger(level, message) {
  if (["error", "fatal"].includes(level) || message.includes("model buffer size"))
    console.error(message.trim());
}

const llama = await getLlama({gpu: false, build: "never", skipDownload: true, progressLogs: false,
  logLevel: "info", logger, maxThreads: 0});
const models = new Map();

async function modelOf(file) {
  if (!models.has(file))
    models.set(file, await llama.loadModel({modelPath: file, gpuLayers: 0, ignoreMemorySafetyChecks: true}));
  return models.get(file);
}

function about() {
  const variants = fs.readFileSync("/proc/self/maps", "utf8").match(/libggml-cpu[^/\s]*\.so/g) ?? [];
  const version = JSON.parse(fs.readFileSync(path.join(packages, "node-llama-cpp", "package.json"))).version;
  return {version, release: llama.llamaCppRelease.release, variants: [...new Set(variants)],
    features: llama.systemInfo};
}

async function withSequence({model, room, batch, flash, threads}, use) {
  const context = await (await modelOf(model)).createContext({contextSize: room, batchSize: batch,
    flashAttention: flash, threads, sequences: 1, ignoreMemorySafetyChecks: true});
  try {
    return await use(context.getSequence());
  } finally {
    await context.dispose();
  }
}

// The logits after the last token.
function logits(request) {
  return withSequence(request, async (sequence) => {
    const last = request.tokens.length - 1;
    const options = {generateNext: {logits: true, options: {temperature: 0}}};
    const input = request.tokens.map((token, i) => i < last ? token : [token, options]);
    const {next} = (await sequence.controlledEvaluate(input))[last];
    return [...next.logits].sort(([a], [b]) => a - b).map(([, value]) => value);
  });
}

// Seconds of a prefill without logits, after a first batch that is not counted.
function seconds(request) {
  return withSequence(request, async (sequence) => {
    await sequence.evaluateWithoutGeneratingNewTokens(request.tokens.slice(0, request.batch));
    await sequence.clearHistory();
    const begin = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(request.tokens);
    return (performance.now() - begin) / 1000;
  });
}

const actions = {about, logits, seconds};
for await (const line of readline.createInterface({input: process.stdin})) {
  const request = JSON.parse(line);
  console.log(JSON.stringify(await actions[request.action](request)));
}
await llama.dispose();

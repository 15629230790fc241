// Hugging Face tokenizers, for record.py: node reference.js PACKAGE tokenizer.json < lines > results
const { Tokenizer } = require(process.argv[2]);
const tokenizer = Tokenizer.fromFile(process.argv[3]);
(async () => {
  for (const line of require("fs").readFileSync(0, "utf8").split("\n").filter((text) => text)) {
    const request = JSON.parse(line);
    const result = request.text !== undefined
      ? { ids: (await tokenizer.encode(request.text, null, { addSpecialTokens: request.mode === "added" })).getIds() }
      : { text: await tokenizer.decode(request.ids, request.skip) };
    console.log(JSON.stringify(result));
  }
})();

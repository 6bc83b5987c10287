// BullMQ on trees of four steps, as a job has one parent: node bullmq_peer.cjs PORT TREES
// Prints steps, and the seconds from the start of the worker to the last step.
const { FlowProducer, Worker } = require("bullmq");
const [port, trees] = process.argv.slice(2).map(Number);
const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };
const job = (children) => ({ name: "work", queueName: "q", data: {}, children });

async function main() {
  const flows = new FlowProducer({ connection });
  for (let at = 0; at < trees; at += 100) {
    const some = Math.min(100, trees - at);
    // d waits for b and c; of the two children that a diamond's a has, a tree gives it one.
    await flows.addBulk(Array.from({ length: some }, () => job([job([job()]), job()])));
  }
  let done = 0;
  const started = process.hrtime.bigint();
  const worker = new Worker("q", async () => {}, { connection, concurrency: 256 });
  worker.on("completed", () => {
    if (++done === 4 * trees) {
      console.log(done, Number(process.hrtime.bigint() - started) / 1e9);
      process.exit(0);
    }
  });
}
main();

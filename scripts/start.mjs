/** `npm start`: sets up what is missing, then runs the example shop with the pinned Node. Runs on Node 20 with nothing installed. */
import { become, command, root, setUp } from "./setup.mjs";

await command(() => {
  setUp();
  become(`${root}/examples/shop/start.ts`, process.argv.slice(2));
});

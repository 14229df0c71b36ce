import { alone } from "./alone.ts";

export default alone("sequence");

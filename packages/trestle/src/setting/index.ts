/** Values from the environment, read and checked when a node starts. */
export { setting, settingValue } from "./setting.ts";
export type { SchemaSettingSpec, Setting, SettingSpec } from "./setting.ts";
export { secret, secretText } from "./secret.ts";
export type { Secret, SecretSpec } from "./secret.ts";

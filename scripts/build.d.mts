export declare function build(): Promise<void>;
export declare function published(manifest: object): object;
